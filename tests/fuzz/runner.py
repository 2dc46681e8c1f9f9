"""Runs one target of support/fuzzed.py under atheris, which follows the branches of prox's sources; see script/fuzz.

Arguments: the target, then libFuzzer's.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "build" / "tools" / "fuzz")]


def main() -> None:
    """Fuzz until libFuzzer's arguments say that it is enough, or a target fails."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["prox"]):
        fuzzed = importlib.import_module("support.fuzzed")
        server = importlib.import_module("prox.http.server")
    assert str(server.__file__).endswith(".py"), "compiled modules tell no branches: run with the sources"
    mutations = importlib.import_module("support.mutations")
    logging.disable(logging.CRITICAL)
    name, *arguments = sys.argv[1:]
    corpus = ROOT / "build" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    crashers = ROOT / "tests" / "fuzz" / "crashers" / name
    crashers.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, seed in enumerate(fuzzed.seeds(name)):
            (seeds / str(number)).write_bytes(seed)
        words = Path(folder) / "words"
        lines = [*mutations.SPLINTERS, fuzzed.NEXT, fuzzed.CUT]
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in lines if word))
        options = [f"-artifact_prefix={crashers}/", f"-dict={words}", "-max_len=2000", "-timeout=10"]
        atheris.Setup(["fuzz", *options, *arguments, str(corpus), str(seeds)], fuzzed.TARGETS[name])
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
