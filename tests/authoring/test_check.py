"""The conformance kit: right plugins pass every check, and every check finds the fault that it is there for."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from prox.authoring.check import (
    CHECKS,
    Outcome,
    Patience,
    Subject,
    as_json,
    run,
    select,
    summary,
    text_lines,
)
from prox.authoring.check.model import PAGE, Check, CheckFailedError, CheckSkippedError, Group
from prox.authoring.check.packing import pack

ROOT = Path(__file__).parents[2]
FAULTY = Path(__file__).with_name("faulty.py")
QUICK = Patience(start=8, ready=1, answer=1, eof=0.6, sigterm=0.6, quiet=0.1)
"""For plugins that fail: nothing that they owe comes later."""
CALM = Patience(quiet=0.05)

FAULTS = {
    "lines.configure-acknowledged": "never answers",
    "lines.one-answer-each": "answers twice",
    "lines.split": "a read is a line",
    "lines.configure-repeated": "refuses again",
    "lines.no-match": "needs match",
    "lines.part-of-match": "needs path",
    "lines.empty-route": "needs a route",
    "lines.key-order": "patterns for JSON",
    "lines.escapes": "no escapes",
    "lines.long": "short lines",
    "lines.unknown-keys": "strict lines",
    "lines.unknown-methods": "answers everything",
    "ready.said": "never ready or pushing",
    "ready.hooks": "odd hook",
    "ready.listening": "ready too early",
    "ready.private": "open socket",
    "ready.after-configure": "forgets its socket",
    "frames.answered": "little end",
    "frames.split": "a read is a frame",
    "frames.many-in-turn": "one call each",
    "frames.limit": "small frames",
    "frames.oversize": "oversize",
    "frames.garbage": "garbage",
    "frames.unknown-hook": "unknown hook",
    "frames.key-order": "order of keys",
    "frames.wide": "fixed head",
    "frames.unknown-keys": "strict",
    "frames.left-out": "needs all",
    "frames.nil": "no nil",
    "frames.text": "ascii",
    "connections.many": "few connections",
    "connections.stalled": "one at a time",
    "connections.broken-off": "half frames",
    "connections.gone-before-answer": "broken pipe",
    "connections.end-of-file": "keeps connections",
    "connections.no-leak": "leaks",
    "on_request.answer": "no verdict",
    "on_request.status": "odd status",
    "on_request.headers": "header with a line end",
    "on_request.bodies": "text bodies",
    "on_request.unknown-route": "unknown route",
    "on_response.answer": "list of changes",
    "on_response.headers": "framing header",
    "on_connect.answer": "empty verdict",
    "on_disconnect.no-answer": "answers an end",
    "on_disconnect.many-in-one-write": "closes after an end",
    "features.named": "a feature twice",
    "features.declared": "names no feature",
    "features.all-values": "one value",
    "features.header-changes": "text for values",
    "features.response-changes": "frames the response",
    "features.tls-client": "no certificates",
    "features.trace": "no traces",
    "life.end-of-stdin": "goes on",
    "life.exit-status": "odd status of exit",
    "life.end-with-connections": "waits for connections",
    "life.end-before-configure": "waits for a line",
    "life.sigterm": "ignores SIGTERM",
    "life.nothing-left": "leaves a child",
    "life.again-after-a-kill": "one path, in use",
    "life.two-at-once": "one path, taken over",
    "output.lines": "prints",
    "output.answers": "odd answer",
    "output.pushes": "bad target",
    "output.ready-before-pushes": "pushes first",
    "output.logs": "odd level",
}
MORE_FAULTS = {
    "frames.answered": ("silent on one", "is not answered within"),
    "frames.wide": ("narrow", "is not answered"),
    "life.nothing-left": ("leaves its socket", "is still there"),
}


def check(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder whose sockets have short names, open to all."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def outcome(name: str, fault: str, elsewhere: Path) -> Outcome:
    patience = replace(QUICK, start=1) if fault == "never answers" else QUICK
    subject = Subject([sys.executable, FAULTY, fault], env={"TMPDIR": str(elsewhere)}, patience=patience)
    return next(found for found in run(subject, [check(name)]) if found.check.name == name)


# Right plugins


def plugins(tmp_path: Path) -> Iterator[tuple[list[str | Path], set[str]]]:
    """Commands and the groups of checks that do not apply, or not whole."""
    page = (ROOT / PAGE).read_text()
    bare = tmp_path / "bare.py"
    bare.write_text(page.partition('```python title="bare.py"\n')[2].partition("```")[0])
    others = {"on_response", "on_connect", "on_disconnect"}
    yield [sys.executable, bare], {*others, "features", "output"}
    yield [sys.executable, write_sdk(tmp_path)], set()
    yield [sys.executable, FAULTY, "none"], set()


def write_sdk(tmp_path: Path) -> Path:
    path = tmp_path / "sdk.py"
    path.write_text("""
from prox.sdk import Plugin, Route, modify

plugin = Plugin(features=["headers.multi", "response.allow", "tls.client", "trace"])

@plugin.on_configure
async def configured(route: Route) -> None:
    plugin.log.info("bound", route=route.id)
    route.set_targets(["10.0.0.1:80"])

@plugin.on_request
async def decide(request):
    if "none" in str(request.headers):
        return request.allow({"X-User": request.path}, response=modify(append={"Set-Cookie": ["a=b", "c=d"]}))
    return request.deny(401, "no\\n", headers={"WWW-Authenticate": ["Basic", "Bearer"]})

@plugin.on_response
def change(response):
    return response.modify(headers={"X-A": "b"}, append={"X-Cookies": response.headers.get_all("set-cookie")})

plugin.on_connect(lambda connection: connection.domain == "a.test")
plugin.on_disconnect(lambda end: None)
plugin.run()
""")
    return path


@pytest.mark.parametrize("number", range(3), ids=["bare", "sdk", "faultless"])
def test_a_right_plugin_passes(tmp_path: Path, elsewhere: Path, number: int) -> None:
    command, skipped = [*plugins(tmp_path)][number]
    outcomes = list(run(Subject(command, env={"TMPDIR": str(elsewhere)}, patience=CALM), CHECKS))
    assert [(o.check.name, o.message) for o in outcomes if o.result == "fail"] == []
    assert {o.check.group for o in outcomes if o.result == "skip"} == skipped
    assert [o.check for o in outcomes] == list(CHECKS)


# Faults


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert list(FAULTS) == [check.name for check in CHECKS]
    assert len(set(FAULTS.values())) == len(FAULTS)


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=str)
def test_the_check_finds_the_fault(name: str, fault: str, elsewhere: Path) -> None:
    found = outcome(name, fault, elsewhere)
    assert (found.result, bool(found.message)) == ("fail", True), found.message


@pytest.mark.parametrize(("name", "fault", "message"), [(n, f, m) for n, (f, m) in MORE_FAULTS.items()])
def test_the_check_finds_another_fault(name: str, fault: str, message: str, elsewhere: Path) -> None:
    found = outcome(name, fault, elsewhere)
    assert found.result == "fail"
    assert message in found.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lines.one-answer-each", "they got 2"),
        ("lines.part-of-match", "the plugin has ended with status 3; its stderr:\ndies of no path"),
        ("ready.hooks", "prox knows no hook 'on_error', only on_request,"),
        ("frames.garbage", "the plugin has ended with status 3; its stderr:\ndies of DecodeError"),
        ("frames.key-order", "a call with its keys in another order is not answered: the plugin closed"),
        ("on_request.status", "a GET is denied with status 99"),
        (
            "on_request.headers",
            "in the answer to a GET prox leaves a header out: the value of X-A has control",
        ),
        ("on_request.answer", "a GET is answered with {'s': 401}: AuthorizeResult: "),
        ("life.nothing-left", "processes that it started run on: sleep ("),
        ("output.lines", "hello\nis not a line of the protocol: JSON is malformed"),
        ("output.pushes", 'changes nothing: "not a target"'),
    ],
)
def test_a_message_says_what_was_done(name: str, message: str, elsewhere: Path) -> None:
    assert message in outcome(name, FAULTS[name], elsewhere).message


def test_one_fault_is_found_once_and_what_needs_it_is_skipped(elsewhere: Path) -> None:
    command: list[str | Path] = [sys.executable, FAULTY, "little end"]
    subject = Subject(command, env={"TMPDIR": str(elsewhere)}, patience=QUICK)
    found = {o.check.name: o for o in run(subject, select(["frames", "connections.*"]))}
    assert [name for name, o in found.items() if o.result == "fail"] == ["frames.answered"]
    assert {o.message for o in found.values() if o.result == "skip"} == {"frames.answered has failed"}


def test_a_program_that_is_none(tmp_path: Path) -> None:
    outcomes = list(run(Subject([tmp_path / "nothing"], patience=QUICK), CHECKS))
    assert [o.check.name for o in outcomes if o.result == "fail"] == ["lines.configure-acknowledged"]
    assert "can't be started: No such file or directory" in outcomes[0].message
    assert {o.result for o in outcomes[1:]} == {"skip"}


def test_a_plugin_without_hooks(tmp_path: Path) -> None:
    path = tmp_path / "pushing.py"
    path.write_text("""
from prox.sdk import Plugin
plugin = Plugin()
plugin.on_configure(lambda route: route.set_targets(["10.0.0.1:80"]))
plugin.run()
""")
    outcomes = list(run(Subject([sys.executable, path], patience=CALM), CHECKS))
    assert [(o.check.name, o.message) for o in outcomes if o.result == "fail"] == []
    assert {o.check.group for o in outcomes if o.result == "pass"} == {"lines", "ready", "life", "output"}


# The kit itself


def test_names_and_sections() -> None:
    page = (ROOT / PAGE).read_text()
    anchors = {
        explicit or re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title, explicit in re.findall(r"^#+ (.*?)(?: \{ #([\w-]+) \})?$", page, re.MULTILINE)
    }
    for each in CHECKS:
        assert re.fullmatch(r"[a-z_]+\.[a-z-]+", each.name)
        assert each.section in anchors, each.name
        assert each.says.endswith("."), each.name
        assert not each.needs or check(each.needs) in CHECKS
    assert len({each.name for each in CHECKS}) == len(CHECKS)


def test_select() -> None:
    assert select([]) == list(CHECKS)
    assert [check.name for check in select(["ready.s*", "life.sigterm"])] == ["ready.said", "life.sigterm"]
    assert {check.group for check in select(["frames"])} == {"frames"}
    with pytest.raises(LookupError, match=r"'frames\.x'"):
        select(["frames.x"])


def test_what_is_shown() -> None:
    group = Group("g")

    @group.check("fails", "frames")
    def fails(subject: Subject) -> None:
        """It fails."""
        raise CheckFailedError("line 1\nline 2")

    @group.check("skips", "log")
    def skips(subject: Subject) -> None:
        """It skips."""
        raise CheckSkippedError("no use")

    @group.check("passes", "log")
    def passes(subject: Subject) -> None:
        """It passes."""

    outcomes = list(run(Subject([]), group.checks))
    assert [line for o in outcomes for line in text_lines(o)] == [
        "  FAIL  fails: It fails.",
        "          line 1",
        "          line 2",
        "          See docs/reference/protocol.md#frames",
        "  skip  skips: no use",
        "  ok    passes",
    ]
    assert summary(outcomes) == "1 passed, 1 failed, 1 skipped"
    assert summary([]) == "nothing checked"
    shown = as_json(outcomes)
    assert (shown["passed"], shown["failed"], shown["skipped"]) == (1, 1, 1)
    assert shown["checks"][0] == {
        "name": "g.fails",
        "says": "It fails.",
        "reference": "docs/reference/protocol.md#frames",
        "result": "fail",
        "message": "line 1\nline 2",
    }


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_packed_can_be_unpacked(wide: bool) -> None:
    value = {
        "a": [None, True, False, 0, 127, 128, -1, -32, -33, 2**40, -(2**40), 1.5, list(range(20))],
        "text": ["", "x" * 31, "x" * 32, "x" * 256, "x" * 70000],
        "bytes": [b"", b"x" * 256, b"x" * 70000],
        "map": {str(n): n for n in range(20)},
    }
    assert msgspec.msgpack.decode(pack(value, wide=wide)) == value
    backwards = msgspec.msgpack.decode(pack(value, wide=wide, reverse=True))
    assert backwards == value
    assert list(backwards) == ["map", "bytes", "text", "a"]
    with pytest.raises(TypeError, match="set"):
        pack({1})
