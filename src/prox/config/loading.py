"""Loading: a file, a folder or a mapping in, a checked `Config` out, or all problems at once.

Loading touches files; inside an event loop it belongs into a thread.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .assemble import Assembly, assemble, assemble_data
from .build import Builder
from .problem import ConfigError, Problem, in_order
from .rules import broken_rules, doubts
from .unsupported import Finding, findings

if TYPE_CHECKING:
    from .model import Config


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that may be used.

    `sources` are all files and folders that were read, to be watched; `warnings` is what it works in spite of.
    """

    config: Config
    sources: tuple[Path, ...]
    warnings: tuple[Problem, ...]
    _assembly: Assembly = field(repr=False, compare=False)

    def unbuilt(self) -> tuple[Problem, ...]:
        """What `unbuilt` says about `config`, with file, line and column."""
        return in_order(_placed(findings(self.config), self._assembly))

    def error(self, message: str, path: tuple[str | int, ...], hint: str = "") -> Problem:
        """What only came out later about the value at `path`, with file, line and column."""
        return self._assembly.problem("error", message, path, hint)


Check: TypeAlias = Callable[["Config"], Iterable[Finding]]
"""Looks for more that is wrong than a configuration itself tells. What is not valid is left out of what it is shown."""


def load(path: str | Path, check: Check | None = None) -> Loaded:
    """Load a file, or a folder whose files are services. Raises ConfigError with all problems, those of `check` too."""
    return _without_gc(lambda: _finish(assemble(Path(path).absolute()), check))


def parse(document: Mapping[str, object], base: Path, check: Check | None = None) -> Loaded:
    """The same from a Python mapping; relative paths count from `base`."""
    try:
        plain = _plain(document)
    except RecursionError:
        raise ConfigError(
            [Problem("error", "the configuration holds itself, or is nested too deeply")]
        ) from None
    return _without_gc(lambda: _finish(assemble_data(plain, Path(base).absolute()), check))


def _without_gc(work: Callable[[], Loaded]) -> Loaded:
    """Thousands of routes are made and none is garbage: looking for it would double the time."""
    if not gc.isenabled():
        return work()
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


def _finish(assembly: Assembly, check: Check | None) -> Loaded:
    builder = Builder(assembly)
    builder.build()
    problems = [*assembly.problems, *builder.problems]
    problems += [assembly.problem("error", *broken) for broken in broken_rules(builder)]
    problems += [assembly.problem("warning", *doubt) for doubt in doubts(builder)]
    broken = any(problem.severity == "error" for problem in problems)
    config = builder.draft() if broken else builder.config()
    found = [] if check is None else list(check(config))
    problems += _placed(found, assembly)
    if broken or any(finding.severity == "error" for finding in found):
        problems += _placed(findings(config), assembly)
        raise ConfigError(problems, (*assembly.sources, *(file for each in found for file in each.files)))
    return Loaded(config, tuple(assembly.sources), in_order(problems), assembly)


def _placed(found: Iterable[Finding], assembly: Assembly) -> Iterable[Problem]:
    return (
        assembly.problem(finding.severity, finding.message, finding.path, finding.hint) for finding in found
    )


def _plain(value: object) -> object:
    """A copy as a JSON5 file would give it: dicts, lists, and texts and numbers that are nothing more than that.

    Readers of other formats give subclasses that carry comments or styles, and a program may give members of an
    Enum; a path is as good as its text.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ConfigError([Problem("error", f"the key {wrong!r} is no text")])
        return {_plain(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # in a file it is a syntax error; here it would fail much later
            raise ConfigError(
                [Problem("error", f"the text {value!a} holds half of a surrogate pair")]
            ) from None
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else value
