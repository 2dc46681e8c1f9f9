"""Files and folders that the texts name are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_NAMED = re.compile(r"`((?:\.ci|bench|docs|examples|requirements|script|src|tests)/[\w./*-]+)")
_LINKED = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_what_a_text_names_is_there(text: Path) -> None:
    content = text.read_text()
    missing = [name for name in _NAMED.findall(content) if not any(ROOT.glob(name))]
    missing += [link for link in _LINKED.findall(content) if not (text.parent / link).exists()]
    assert not missing


def test_the_layers_on_the_architecture_page_are_those_of_the_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    diagram = page.partition("```text\n")[2].partition("```")[0]
    shown = [re.split(r" {3,}", line)[0].strip() for line in diagram.splitlines()]
    assert [re.sub(r" *\| *", " | ", line) for line in shown] == re.findall(r'"([^"]+)"', contract)
