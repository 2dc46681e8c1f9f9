"""Every name of the origin's plugin package has its counterpart, which the plugin host's page names and which is documented.

The package is that of the Go proxy of the same name; its names and fields stand here as its documentation lists them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import prox.plugin
import prox.wire

PAGE = Path(__file__).parents[2] / "docs/reference/plugin-host.md"

CONSTANTS = {
    "MethodConfigure": "configure",
    "MethodSetTargets": "set_targets",
    "MethodReady": "ready",
    "HookOnRequest": "on_request",
    "HookOnResponse": "on_response",
    "HookOnConnect": "on_connect",
}

FIELDS = {
    "AuthorizeResult": {"Allow": "ok", "Drop": "dr", "Status": "s", "Body": "b", "Headers": "h"},
    "ConfigureParams": {"RouteID": "route_id", "Match": "match"},
    "ConnInfo": {"RouteID": "r", "Domain": "d", "RemoteAddr": "a", "MatchDomain": "md", "MatchGlob": "mg"},
    "ConnResult": {"Allow": "ok"},
    "Envelope": {"Hook": "t", "Data": "d"},
    "MatchInfo": {"Domain": "domain", "Path": "path"},
    "Push": {"Method": "method", "Params": "params"},
    "PushParams": {
        "RouteID": "route_id",
        "Action": "action",
        "Targets": "targets",
        "Groups": "groups",
        "Socket": "socket",
        "Hooks": "hooks",
    },
    "Request": {"Method": "method", "Params": "params"},
    "RequestInfo": {
        "RouteID": "r",
        "Method": "m",
        "Path": "p",
        "Query": "q",
        "Domain": "d",
        "Host": "ho",
        "Proto": "pr",
        "RemoteAddr": "a",
        "ContentLength": "cl",
        "Headers": "h",
        "Body": "bd",
        "MatchDomain": "md",
        "MatchGlob": "mg",
        "MatchPath": "mp",
        "Vars": "v",
    },
    "Response": {"Result": "result", "Error": "error"},
    "ResponseModResult": {"Status": "s", "Headers": "h", "Remove": "rm"},
    "ResponsePair": {"Request": "req", "Response": "resp"},
    "UpstreamResponseInfo": {"Status": "s", "Headers": "h"},
}

BINDING = ("RouteID", "Plugin", "Match", "Balancer", "Timeout")
PLAIN = {"HookType", "Binding", "RouteInfo", "Manager", "Caller", "Process"}

METHODS: dict[str, dict[str, list[str]]] = {
    "Manager": {
        "Configure": ["bindings", "routes"],
        "Start": [],
        "Reconfigure": ["bindings", "routes"],
        "Stop": [],
        "HasHook": ["route_id", "hook"],
        "OnRequest": ["route_id", "info"],
        "OnResponse": ["route_id", "info", "resp"],
        "OnConnect": ["route_id", "conn"],
    },
    "Caller": {"CallRequest": ["*"], "CallResponse": ["*"], "CallConnect": ["*"], "Close": []},
}
"""And what their counterparts take; `*` is anything."""

AT_ONCE = {"Configure", "HasHook"}
"""What does not wait; all others are coroutines."""


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("ID", "Id")).lower()


def rows() -> list[tuple[set[str], str]]:
    """The Go names of each row of the table, and what the page says of them."""
    section = PAGE.read_text().partition("\n## Names of the origin\n")[2].partition("\n## ")[0]
    lines = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [
        ({name.removesuffix("()") for name in re.findall("`([^`]+)`", go)}, python) for go, python in lines
    ]


def said_of(name: str) -> str:
    found = [python for names, python in rows() if name in names]
    assert len(found) == 1, f"{name} stands in {len(found)} rows"
    return found[0]


def documented(value: Any) -> bool:
    return bool(inspect.getdoc(value))


def home(name: str) -> Any:
    """What has that name in the package of plugins, which has all names of the origin's."""
    assert name in prox.plugin.__all__, f"{name} is not exported"
    return getattr(prox.plugin, name)


def test_the_page_has_all_names_and_no_others() -> None:
    methods = {name for of_type in METHODS.values() for name in of_type}
    functions = {"MarshalEnvelope", "NewManager", "Done"}
    everything = {*CONSTANTS, *FIELDS, *PLAIN, *methods, *functions} - {
        "Manager"
    }  # which NewManager stands for
    assert set().union(*(names for names, _ in rows())) == everything


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_constants(name: str, value: str) -> None:
    ours = snake(name).upper()
    assert home(ours) == value
    assert f"`{ours}`" in said_of(name)


@pytest.mark.parametrize("name", FIELDS)
def test_messages(name: str) -> None:
    struct = home(name)
    assert "the same" in said_of(name)
    assert documented(struct)
    keys = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    wanted = {snake(field): key for field, key in FIELDS[name].items()}
    assert {field: keys.get(field) for field in wanted} == wanted


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_types(name: str) -> None:
    assert f"`{name}`" in said_of("NewManager" if name == "Manager" else name)
    assert documented(home(name))


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in METHODS for name in METHODS[owner]])
def test_methods(owner: str, name: str) -> None:
    method = getattr(home(owner), snake(name))
    assert documented(method)
    assert re.search(rf"\b{snake(name)}\b", said_of(name))
    assert inspect.iscoroutinefunction(method) is (
        name not in AT_ONCE and (owner, name) != ("Caller", "Close")
    )
    parameters = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "self" and parameter.default is parameter.empty
    ]
    if METHODS[owner][name] != ["*"]:
        assert parameters == METHODS[owner][name]


def test_what_has_another_form() -> None:
    for name in ("marshal_envelope", "unmarshal_envelope"):
        assert documented(home(name))
        assert f"`{name}`" in said_of("MarshalEnvelope")
    assert [(hook.name, hook.value) for hook in prox.plugin.HookType][:3] == [
        ("ON_REQUEST", 1),
        ("ON_RESPONSE", 2),
        ("ON_CONNECT", 3),
    ]
    process = prox.plugin.Process
    assert documented(process.done)
    assert documented(process.wait)
    assert inspect.iscoroutinefunction(process.wait)
    assert {"`done`", "`await process.wait()`"} <= set(re.findall("`[^`]+`", said_of("Done")))
    fields = {field.name for field in dataclasses.fields(prox.plugin.Binding)}
    assert {snake(field) for field in BINDING} <= fields
    for field in BINDING:
        assert re.search(rf"`{snake(field)}`", said_of("Binding"))
    assert {"action", "balancer"} <= {field.name for field in dataclasses.fields(prox.plugin.RouteInfo)}
    frozen: list[Any] = [prox.plugin.Binding, prox.plugin.RouteInfo]
    assert all(cls.__dataclass_params__.frozen for cls in frozen)


def test_what_both_packages_have_is_one() -> None:
    both = set(prox.plugin.__all__) & set(prox.wire.__all__)
    assert len(both) > 20
    assert all(getattr(prox.plugin, name) is getattr(prox.wire, name) for name in both)


@pytest.mark.parametrize("package", [prox.plugin, prox.wire], ids=lambda package: package.__name__)
def test_every_exported_class_and_function_is_documented(package: Any) -> None:
    exported = [getattr(package, name) for name in package.__all__]
    made = [value for value in exported if inspect.isclass(value) or inspect.isfunction(value)]
    assert len(made) > 10
    assert [value.__name__ for value in made if not documented(value)] == []
