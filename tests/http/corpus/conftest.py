from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.corpus import Corpus


@pytest.fixture(name="corpus", scope="package")
def _corpus() -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    corpus.stop()
