from __future__ import annotations

import gc
import os
from collections import OrderedDict
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from prox.config import ConfigError, Problem, load, parse
from prox.config.model import StaticAction

GOLDEN = Path(__file__).parent / "golden"


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_every_file_and_folder_that_was_read_is_a_source() -> None:
    fine = GOLDEN / "fine"
    loaded = load(fine / "config.json5")
    assert loaded.sources == (fine / "config.json5", fine / "sites/web.json5", fine / "parts/routes.json5")
    assert loaded.config.services["web"].name == "web"
    assert len(loaded.config.services["web"].routes) == 5


def test_a_folder_is_a_source_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "b.json5").write_text('{ listen: ":2", routes: [{ action: "shared" }] }')
    (tmp_path / "a.json5").write_text(
        '{ listen: ":1", actions: { shared: { type: "drop" } }, routes: [{ action: "shared" }] }'
    )
    (tmp_path / ".hidden.json5").write_text("not read")
    (tmp_path / "README").write_text("not read")
    loaded = load(str(tmp_path))
    assert list(loaded.config.services) == ["a", "b"]
    assert loaded.sources == (tmp_path, tmp_path / "a.json5", tmp_path / "b.json5")
    assert loaded.warnings == ()


def test_a_service_may_be_a_folder_of_services(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/shop.json5").write_text('{ listen: ":1", routes: [{ action: { type: "drop" } }] }')
    (tmp_path / "config.json5").write_text('{ services: { all: "sites" } }')
    loaded = load(tmp_path / "config.json5")
    assert list(loaded.config.services) == ["shop"]
    assert tmp_path / "sites" in loaded.sources


def test_relative_paths_count_from_the_file_that_names_them() -> None:
    config = load(GOLDEN / "fine/config.json5").config
    assert config.plugins["guard"].path == str(GOLDEN / "fine/guard")
    assert config.plugins["finder"].path == str(GOLDEN / "fine/sites/finder")
    assert config.resources["page"].file == str(GOLDEN / "fine/parts/page.html")
    assert config.services["web"].routes[2].action.model_dump()["root"] == str(GOLDEN / "fine/parts/files")


def test_a_relative_start_counts_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json5").write_text('{ plugins: { p: { path: "x" } } }')
    monkeypatch.chdir(tmp_path)
    loaded = load("config.json5")
    assert loaded.sources == (tmp_path / "config.json5",)
    assert loaded.config.plugins["p"].path == str(tmp_path / "x")


def test_a_byte_order_mark_moves_no_column(tmp_path: Path) -> None:
    file = tmp_path / "config.json5"
    file.write_bytes(b"\xef\xbb\xbf{ x: 1 }")
    [problem] = problems_of(file)
    assert (problem.line, problem.column, problem.path) == (1, 3, "x")


@pytest.mark.parametrize(
    ("raw", "line", "column", "message"),
    [
        (b'{\n  a: "\xff" }', 2, 7, "no UTF-8"),
        ("{\n é: \x00}".encode(), 2, 5, "a value is missing before the character U+0000"),
        (b"{ services: {}, \r\n  plugins {} }", 2, 11, '":" is missing'),
        (b"[" * 100_000, 1, 33, "nested too deeply"),
        (b"{ a: 1e999 }", 1, 6, "number"),
        (b"{ a: truE }", 1, 6, '"truE" is no value'),
        (b"{ a: }", 1, 6, "a value is missing"),
        (b"{ , }", 1, 3, "comma too many"),
        (b"{ 1a: 1 }", 1, 3, "a key can't begin with"),
        (rb'{ a: "\ud83d" }', 1, 12, "escape sequence"),
        (rb'{ a: "\ude00" }', 1, 6, "escape sequence"),
        (rb'{ a: "\1" }', 1, 6, "escape sequence"),
        (b"[1 2]", 1, 4, 'a comma or "]" is missing'),
    ],
)
def test_syntax_errors_have_a_place_and_a_sentence(
    tmp_path: Path, raw: bytes, line: int, column: int, message: str
) -> None:
    file = tmp_path / "config.json5"
    file.write_bytes(raw)
    [problem] = problems_of(file)
    assert (problem.file, problem.line, problem.column) == (file, line, column)
    assert message in problem.message


def test_columns_count_characters(tmp_path: Path) -> None:
    file = tmp_path / "config.json5"
    file.write_text("{ plugins: { 'é\U0001f600': { path: 'x', why: 1 } } }")
    [problem, *_] = problems_of(file)
    assert problem.column == 33
    assert problem.path == 'plugins["é\U0001f600"].why'


@pytest.mark.parametrize("service", ["gone.json5", "config.json5/x"])
def test_a_service_file_that_is_not_there(tmp_path: Path, service: str) -> None:
    (tmp_path / "config.json5").write_text(f'{{ services: {{ web: "{service}" }} }}')
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.message.startswith(f'can\'t read "{service}"')
    assert (problem.line, problem.column) == (1, 20)


def test_links_that_go_round_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop.json5").symlink_to("loop.json5")
    (tmp_path / "config.json5").write_text('{ services: { web: "loop.json5" } }')
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.message == 'can\'t read "loop.json5": too many levels of symbolic links'
    assert "symbolic links" in problems_of(tmp_path / "loop.json5")[0].message


def test_a_file_that_includes_itself_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "link.json5").symlink_to("config.json5")
    (tmp_path / "config.json5").write_text('{ services: { web: "link.json5" } }')
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.message == '"link.json5" includes itself'


def test_a_start_that_is_not_there(tmp_path: Path) -> None:
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.file == tmp_path / "config.json5"
    assert problem.message == "can't read the configuration: no such file or directory"
    assert str(problem) == f"{tmp_path}/config.json5: error: {problem.message}"


def test_a_file_spliced_twice_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text(
        '{ services: { a: { listen: ":1", routes: ["r.json5"] }, b: { listen: ":2", routes: ["r.json5"] } } }'
    )
    (tmp_path / "r.json5").write_text("[{ action: 'gone' }]")
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.file == tmp_path / "r.json5"


def test_a_key_twice_in_a_file_of_routes_is_placed_below_the_service(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text('{ services: { a: { listen: ":1", routes: ["r.json5"] } } }')
    (tmp_path / "r.json5").write_text("[{ set: {}, set: {}, action: { type: 'drop' } }]")
    [problem] = problems_of(tmp_path / "config.json5")
    assert problem.path == "services.a.routes[0][0].set"


def test_parse_takes_what_python_has() -> None:
    document = MappingProxyType(
        {"services": MappingProxyType({"web": {"listen": ":1", "routes": ({"action": {"type": "drop"}},)}})}
    )
    loaded = parse(document, Path("relative"))
    assert len(loaded.config.services["web"].routes) == 1
    assert loaded.sources == ()


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            {"services": {"web": {"listen": "x"}}},
            'error: services.web.listen: "x" is no listen address: the port is missing',
        ),
        ({1: {}}, "error: the key 1 is no text"),
        ({"a": "\ud800"}, "error: the text '\\ud800' holds half of a surrogate pair"),
        ({"\ud800": 1}, "error: the text '\\ud800' holds half of a surrogate pair"),
        ({"services": {"web": {"listen": ":1", 2: 3}}}, "error: the key 2 is no text"),
        (
            {"plugins": {"p": {"path": {"a", "set"}}}},
            "error: plugins.p.path: must be a text in quotation marks, not a Python set",
        ),
        ({"plugin": {}}, 'error: plugin: unknown key "plugin" (did you mean "plugins"?)'),
    ],
)
def test_problems_of_a_mapping_have_a_path_and_no_file(document: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, Path("/"))
    assert str(caught.value.problems[0]) == text
    assert caught.value.problems[0].file is None


class Text(str):
    """As readers of YAML and TOML give, with a style of its own."""

    __slots__ = ("style",)

    def __str__(self) -> str:
        return "not this"


class Kind(str, Enum):  # noqa: UP042 - unlike a StrEnum it shows its name as its text
    STATIC = "static"


class Status(IntEnum):
    GONE = 410


def test_a_mapping_becomes_plain_values(tmp_path: Path) -> None:
    (tmp_path / "web.json5").write_text('{ listen: ":1", routes: [{ action: "gone" }] }')
    document = OrderedDict(
        {
            Text("actions"): {
                Text("gone"): {"type": Kind.STATIC, "status": Status.GONE, "access_log": tmp_path / "log"}
            },
            "services": {Text("web"): Path("web.json5")},
        }
    )
    config = parse(document, tmp_path).config
    [(name, action)] = config.actions.items()
    assert isinstance(action, StaticAction)
    values = (*config.services, name, action.type, action.status, action.access_log)
    assert values == ("web", "gone", "static", 410, f"{tmp_path}/log")
    assert [type(value) for value in values] == [str, str, str, int, str]


def test_a_mapping_that_holds_itself() -> None:
    document: dict[str, Any] = {}
    document["services"] = document
    with pytest.raises(ConfigError, match="holds itself"):
        parse(document, Path("/"))


def test_a_mapping_may_name_files(tmp_path: Path) -> None:
    (tmp_path / "web.json5").write_text('{ listen: ":1", routes: [{ action: { type: "drop" } }] }')
    loaded = parse({"services": {"web": "web.json5"}}, tmp_path)
    assert loaded.sources == (tmp_path / "web.json5",)


def test_loading_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    assert gc.isenabled()
    problems_of(tmp_path / "gone")
    assert gc.isenabled()
    gc.disable()
    try:
        parse({}, tmp_path)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_many_routes_and_one_mistake_in_the_last(tmp_path: Path) -> None:
    routes = "\n".join(f'  {{ match: {{ path: "/{number}" }}, action: "a" }},' for number in range(2000))
    (tmp_path / "config.json5").write_text(
        f'{{ actions: {{ a: {{ type: "drop" }} }}, services: {{ web: {{ listen: ":1", routes: [\n{routes}\n'
        '  { match: { paht: "/x" }, action: "a" },\n] } } }'
    )
    [problem] = problems_of(tmp_path / "config.json5")
    assert (problem.line, problem.column, problem.path) == (2002, 14, "services.web.routes[2000].match.paht")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json5").touch(mode=0o000)
    [problem] = problems_of(tmp_path / "config.json5")
    assert "permission denied" in problem.message
