"""The reference says what the program has: every key, every reason, every exported name."""

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec
import pytest

from prox import routing, wire
from prox.config import model
from prox.config.model import Model
from prox.config.unsupported import UNBUILT

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/prox"
REFERENCE = ROOT / "docs/reference"

_TOKEN = re.compile(r"[a-z]+(_[a-z]+)*")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The hook that fills the configuration page."""
    spec = importlib.util.spec_from_file_location("model_tables", ROOT / "docs/model_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Configuration


def models() -> list[type[Model]]:
    found = [getattr(model, name) for name in model.__all__]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, Model) and cls is not Model]


@pytest.mark.parametrize("cls", models(), ids=lambda cls: cls.__name__)
def test_every_key_of_a_model_is_on_the_configuration_page(cls: type[Model], tables: ModuleType) -> None:
    page = tables.on_page_markdown((REFERENCE / "configuration.md").read_text())
    table = tables.table(cls.__name__)
    assert table in page
    for name, field in cls.model_fields.items():
        key = str(field.validation_alias or name)
        if key != "<name>":
            assert f"| `{key}` |" in table


def test_keys_that_do_not_act_are_marked(tables: ModuleType) -> None:
    assert "`prox serve` refuses it" in next(
        line for line in tables.table("Service").splitlines() if line.startswith("| `acme`")
    )
    assert "without effect" in next(
        line for line in tables.table("Tuning").splitlines() if line.startswith("| `read_buffer_size`")
    )


def test_keys_are_read_or_said_to_be_without_effect() -> None:
    files = [file for file in SOURCE.rglob("*.py") if not file.is_relative_to(SOURCE / "config")]
    source = "\n".join(file.read_text() for file in files)
    for name in ("Tuning", "ProxyAction", "Route", "Plugin", "Runtime", "Logging"):
        of_model = getattr(model, name)
        for key in of_model.model_fields.keys() - UNBUILT.get(of_model, {}).keys() - HARMLESS:
            assert re.search(rf"\.{key}\b", source), f"{name}.{key} is read by nobody"


HARMLESS = {"type", "flush_interval", "level"}
"""Keys that need nobody to read them: a discriminator, what prox does anyway, what another name carries."""


# Reasons


def constants(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression may be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.BoolOp(values=values):
            for value in values:
                yield from constants(value)
        case ast.IfExp(body=body, orelse=orelse):
            yield from constants(body)
            yield from constants(orelse)
        case ast.Call(func=ast.Name(id="getattr"), args=[_, _, default]):
            yield from constants(default)


def said_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="UpstreamError"), args=[kind, *_]):
            yield from constants(kind)
        case ast.Call(func=ast.Name(id="BadMessageError"), args=[_, _, reason]):
            yield from constants(reason)
        case ast.Call(func=ast.Attribute(attr="_refuse"), args=[_, _, reason]):
            yield from constants(reason)
        case ast.keyword(arg="reason", value=value):
            yield from constants(value)
        case ast.Assign(targets=[ast.Attribute(attr="reason" | "kind")], value=value):
            yield from constants(value)
        case ast.Assign(targets=[ast.Name(id="how" | "kind" | "reason")], value=value):
            yield from constants(value)
        case ast.FunctionDef(args=arguments):
            names = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
            defaults = [
                *[None] * (len(arguments.args) - len(arguments.defaults)),
                *arguments.defaults,
                *arguments.kw_defaults,
            ]
            for name, default in zip(names, defaults, strict=True):
                if name == "reason":
                    yield from constants(default)


def nodes() -> list[ast.AST]:
    files = [file for package in ("http", "limits", "proxy") for file in (SOURCE / package).rglob("*.py")]
    return [node for file in files for node in ast.walk(ast.parse(file.read_text()))]


def test_the_answers_page_has_every_reason_and_no_other() -> None:
    source = nodes()
    said = {text for node in source for text in said_by(node) if _TOKEN.fullmatch(text)}
    assert said >= {"malformed", "no_route", "plugin_denied", "upstream_timeout", "internal_error"}
    page = (REFERENCE / "answers.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page.partition("## Reasons")[2], re.MULTILINE))
    assert said <= listed
    assert listed <= {node.value for node in source if isinstance(node, ast.Constant)}


def test_every_key_of_the_access_log_is_on_the_answers_page() -> None:
    from prox.observe.access import AccessRecord

    page = (REFERENCE / "answers.md").read_text()
    listed = re.findall(
        r"^\| `([a-z_]+)` \|", page.partition("## The access log")[2].partition("## Reasons")[0], re.MULTILINE
    )
    assert listed == list(AccessRecord.__struct_fields__)


# Routing


def rows(page: str, heading: str) -> list[list[list[str]]]:
    """The code in each cell of the table below a heading."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[re.findall("`([^`]*)`", cell) for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("heading", ["domain", "path"])
def test_the_tables_of_patterns_are_right(heading: str) -> None:
    found = rows((REFERENCE / "routing.md").read_text(), heading)
    assert len(found) >= 4
    for (pattern,), yes, no in found:
        match = Match(pattern, None) if heading == "domain" else Match(None, pattern)
        table = routing.compile([(match, "taken")])
        for text, expected in [*((text, True) for text in yes), *((text, False) for text in no)]:
            host = text.partition(":")[0].lower() if heading == "domain" else ""
            path = text if heading == "path" else "/"
            assert (table.match(host, path, "GET") is not None) is expected, (pattern, text)


class Match(NamedTuple):
    domain: str | None
    path: str | None
    methods: tuple[str, ...] = ()
    forward_proxy: bool = False


# Protocol


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("on_request: payload", wire.RequestInfo),
        ("on_request: result", wire.AuthorizeResult),
        ("on_response: payload", wire.ResponsePair),
        ("on_response: result", wire.ResponseModResult),
        ("on_connect: payload", wire.ConnInfo),
        ("on_connect: result", wire.ConnResult),
        ("on_disconnect: payload", wire.DisconnectInfo),
    ],
)
def test_the_protocol_page_has_the_keys_of_each_message(heading: str, struct: type[msgspec.Struct]) -> None:
    page = (REFERENCE / "protocol.md").read_text()
    section = page.partition(f"\n### {heading} {{")[2].partition("\n##")[0]
    shown = re.findall(r"^\| `(\w+)` \| [^|]+ \| (left out|) *\|", section, re.MULTILINE)
    fields = msgspec.structs.fields(struct)
    assert shown == [(field.encode_name, "" if field.required else "left out") for field in fields]


def test_the_bytes_on_the_protocol_page_are_those_of_an_allowing_verdict() -> None:
    shown = re.search(r"```text\n((?:[0-9a-f]{2}\s+)+)```", (REFERENCE / "protocol.md").read_text())
    assert shown is not None
    assert bytes.fromhex(shown[1]) == wire.encode_result(wire.AuthorizeResult(allow=True))


# Python


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("prox", "server.md"),
        ("prox.sdk", "sdk.md"),
        ("prox.sdk.testing", "sdk.md"),
        ("prox.plugin", "plugin-host.md"),
        ("prox.wire", "wire.md"),
    ],
)
def test_every_exported_name_is_on_its_page(name: str, file: str) -> None:
    page = (REFERENCE / file).read_text()
    exported = set(importlib.import_module(name).__all__) - {"__version__"}
    missing = {item for item in exported if f"::: {name}.{item}\n" not in page and f"`{item}`" not in page}
    assert not missing
