"""From the files of a configuration to one list of parts, each with the place that it came from.

Services may stand in files and folders of their own, routes may be spliced in from files; here all of that is
put together, and nothing is said yet about what is inside the parts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .document import Document, read_document
from .files import is_folder, reason
from .invalid import shown, suggestion
from .problem import ConfigError, Problem

if TYPE_CHECKING:
    from .document import Path_
    from .problem import Place

SECTIONS = ("logging", "admin", "runtime")
NAMED = ("resources", "plugins", "actions")
ROOT_KEYS = ("services", *NAMED, *SECTIONS, "$schema")
FRAGMENT_KEYS = ("service_plugins", *NAMED, "$schema")
_KINDS = {"services": "service", "resources": "resource", "plugins": "plugin", "actions": "action"}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document: `raw` is what stands at `path` in it, and `above` leads from the root to the document."""

    document: Document
    path: Path_
    raw: Any
    is_fragment: bool = False
    above: Path_ = ()

    @property
    def whole_path(self) -> Path_:
        """The path from the root of the configuration."""
        return (*self.above, *self.path)

    def problem(
        self,
        severity: Literal["error", "warning", "note"],
        message: str,
        path: Path_ = (),
        hint: str = "",
        *,
        at_key: bool = False,
        see: Place | None = None,
    ) -> Problem:
        """A finding about what stands at `path` below this part."""
        if self.is_fragment and path[:1] == ("plugins",):
            path = ("service_plugins", *path[1:])
        return self.document.problem(
            severity, message, (*self.path, *path), hint, at_key=at_key, above=self.above, see=see
        )

    def inner(self, *path: str | int) -> Part:
        """The part at `path` below this one."""
        raw = self.raw
        for step in path:
            raw = raw[step]
        return Part(self.document, (*self.path, *path), raw, above=self.above)


@dataclass(slots=True)
class Assembly:
    """All parts of a configuration, the files and folders that were read, and what was wrong with those."""

    start: Path | None = None
    services: dict[str, Part] = field(default_factory=dict)
    routes: dict[str, list[Part]] = field(default_factory=dict)
    named: dict[str, dict[str, Part]] = field(default_factory=lambda: {kind: {} for kind in NAMED})
    sections: dict[str, Part] = field(default_factory=dict)
    sources: dict[Path, None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(
        self, severity: Literal["error", "warning", "note"], message: str, path: Path_, hint: str = ""
    ) -> Problem:
        """A finding about a place in the whole configuration, as in `("services", "web", "routes", 2)`."""
        part, rest = self._home(path)
        if part is None:
            return Problem(severity, message, self.start, hint=hint)
        return part.problem(severity, message, rest, hint)

    def _home(self, path: Path_) -> tuple[Part | None, Path_]:
        match path:
            case ("services", str(service), "routes", int(index), *rest) if service in self.routes:
                return self.routes[service][index], tuple(rest)
            case ("services", str(service), *rest) if service in self.services:
                return self.services[service], tuple(rest)
            case (str(kind), str(name), *rest) if name in self.named.get(kind, {}):
                return self.named[kind][name], tuple(rest)
            case (str(section), *rest) if section in self.sections:
                return self.sections[section], tuple(rest)
        return None, path


def assemble(start: Path) -> Assembly:
    """Read a file, or every `.json5` of a folder as one service each."""
    assembler = _Assembler()
    assembler.start(start)
    return assembler.result


def assemble_data(data: object, base: Path) -> Assembly:
    """The same from a document that is in memory."""
    assembler = _Assembler()
    assembler.add_root(Document(data, base), ())
    return assembler.result


class _Assembler:
    def __init__(self) -> None:
        self.result = Assembly()
        self._documents: dict[Path, Document | None] = {}

    def start(self, start: Path) -> None:
        self.result.start = start
        if is_folder(start):
            self._add_folder(Part(Document({}, start), (), {}), start, (), named_by_user=True)
            return
        try:
            document = self._read(start)
        except OSError as error:
            problem = Problem("error", f"can't read the configuration: {reason(error)}", start)
            self.result.problems.append(problem)
            return
        if document is not None:
            self.add_root(document, (_real(start),))

    def add_root(self, document: Document, trail: tuple[Path, ...]) -> None:
        root = Part(document, (), document.data)
        if not isinstance(root.raw, dict):
            self._error(root, "a configuration is an object", hint="write it in braces")
            return
        for key in root.raw:
            if key not in ROOT_KEYS:
                self._unknown_key(root, key, ROOT_KEYS)
        for section in SECTIONS:
            if section in root.raw:
                self.result.sections[section] = root.inner(section)
        self._add_named(root)
        for name, part in self._members(root, "services"):
            self._add_service(name, part, trail)

    def _add_named(self, owner: Part) -> None:
        for kind in NAMED:
            for name, part in self._members(owner, kind):
                if not isinstance(part.raw, dict):
                    self._error(part, f"must be an object, not {kind_of(part.raw)}")
                    continue
                self._define(kind, self.result.named[kind], name, part)

    def _define(self, kind: str, table: dict[str, Part], name: str, part: Part) -> bool:
        before = table.get(name)
        if before is None:
            table[name] = part
            return True
        message = f'the {_KINDS[kind]} "{name}" is there twice'
        same = part.document is before.document and part.path == before.path  # a file that is named twice
        see = None if same else before.document.key_place(before.path)
        self.result.problems.append(part.problem("error", message, at_key=True, see=see))
        return False

    def _members(self, owner: Part, key: str) -> list[tuple[str, Part]]:
        """The members of a section that maps names to things."""
        if key not in owner.raw:
            return []
        section = owner.inner(key)
        if not isinstance(section.raw, dict):
            hint = 'references to plugins stand in "service_plugins" here' if owner.is_fragment else ""
            self._error(section, f"must be an object of names, not {kind_of(section.raw)}", hint=hint)
            return []
        members = []
        for name in section.raw:
            part = section.inner(name)
            if not name or not name.isprintable():
                self._error(part, f"{shown(name)} is no name", at_key=True)
            else:
                members.append((name, part))
        return members

    def _add_service(self, name: str, part: Part, trail: tuple[Path, ...]) -> None:
        if isinstance(part.raw, dict):
            if self._define("services", self.result.services, name, part):
                self._add_routes(name, part, trail)
            return
        if not isinstance(part.raw, str):
            self._error(part, f"must be an object or the path of a file or folder, not {kind_of(part.raw)}")
            return
        path = self._path(part)
        if path is None:
            return
        if is_folder(path):
            self._add_folder(part, path, trail)
        else:
            self._add_fragment(name, part, path, trail)

    def _add_folder(
        self, part: Part, folder: Path, trail: tuple[Path, ...], *, named_by_user: bool = False
    ) -> None:
        self.result.sources[folder] = None
        try:
            files = sorted(
                file for file in folder.iterdir() if file.suffix == ".json5" and file.name[0] != "."
            )
        except OSError as error:
            if named_by_user:
                self.result.problems.append(Problem("error", f"can't read: {reason(error)}", folder))
            else:
                self._error(part, f'can\'t read "{part.raw}": {reason(error)}')
            return
        if not files:
            warning = f'there is no ".json5" file in {folder}'
            if named_by_user:
                self.result.problems.append(Problem("warning", warning))
            else:
                self.result.problems.append(part.problem("warning", warning))
        for file in files:
            self._add_fragment(file.stem, part, file, trail)

    def _add_fragment(self, name: str, named_by: Part, file: Path, trail: tuple[Path, ...]) -> None:
        above = ("services", name)
        document = self._include(named_by, file, trail, above)
        if document is None:
            return
        fragment = Part(document, (), document.data, is_fragment=True, above=above)
        if not isinstance(fragment.raw, dict):
            self._error(fragment, "a service file holds one object", hint="write it in braces")
            return
        self._add_named(fragment)
        raw = {key: value for key, value in fragment.raw.items() if key not in FRAGMENT_KEYS}
        if "service_plugins" in fragment.raw:
            raw["plugins"] = fragment.raw["service_plugins"]
        service = Part(document, (), raw, is_fragment=True, above=above)
        if self._define("services", self.result.services, name, service):
            self._add_routes(name, service, (*trail, _real(file)))

    def _add_routes(self, service: str, part: Part, trail: tuple[Path, ...]) -> None:
        routes = self.result.routes[service] = []
        if "routes" in part.raw:
            self._splice(routes, part.inner("routes"), trail)

    def _splice(self, routes: list[Part], listed: Part, trail: tuple[Path, ...]) -> None:
        if not isinstance(listed.raw, list):
            self._error(listed, f"must be a list of routes, not {kind_of(listed.raw)}")
            return
        document, path = listed.document, listed.path
        for index, raw in enumerate(listed.raw):
            part = Part(document, (*path, index), raw, above=listed.above)
            if not isinstance(raw, str):
                routes.append(part)
                continue
            file = self._path(part)
            included = None if file is None else self._include(part, file, trail, part.whole_path)
            if file is None or included is None:
                continue
            inner = Part(included, (), included.data, above=part.whole_path)
            if isinstance(inner.raw, dict):
                for key in inner.raw:
                    if key not in {"routes", "$schema"}:
                        self._unknown_key(inner, key, ("routes",))
                if "routes" not in inner.raw:
                    self._error(
                        inner, '"routes" is missing', hint="a file of routes is a list, or {routes: [...]}"
                    )
                    continue
                inner = inner.inner("routes")
            self._splice(routes, inner, (*trail, _real(file)))

    def _path(self, part: Part) -> Path | None:
        if not part.raw or "\0" in part.raw:
            self._error(part, "the path is empty" if not part.raw else "a path can't hold a NUL character")
            return None
        return Path(os.path.normpath(part.document.base / part.raw))

    def _include(self, named_by: Part, file: Path, trail: tuple[Path, ...], above: Path_) -> Document | None:
        if _real(file) in trail:
            self._error(named_by, f'"{file.name}" includes itself')
            return None
        try:
            return self._read(file, above)
        except OSError as error:
            self._error(named_by, f'can\'t read "{named_by.raw or file}": {reason(error)}')
            return None

    def _read(self, file: Path, above: Path_ = ()) -> Document | None:
        """The document, or None where its problems are reported already."""
        if file not in self._documents:
            self.result.sources[file] = None
            try:
                document = read_document(file)
            except ConfigError as error:
                self.result.problems.extend(error.problems)
                self._documents[file] = None
            else:
                self.result.problems.extend(document.repeated_keys(above))
                self._documents[file] = document
        return self._documents[file]

    def _error(self, part: Part, message: str, *, hint: str = "", at_key: bool = False) -> None:
        self.result.problems.append(part.problem("error", message, hint=hint, at_key=at_key))

    def _unknown_key(self, owner: Part, key: str, known: tuple[str, ...]) -> None:
        part = owner.inner(key)
        self._error(part, f'unknown key "{key}"', hint=suggestion(key, known), at_key=True)


def _real(file: Path) -> Path:
    # Path.resolve raises for links that go round in a circle; reading the file then says what is wrong.
    return Path(os.path.realpath(file))


def kind_of(value: object) -> str:
    """What a value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"a Python {type(value).__name__}"
