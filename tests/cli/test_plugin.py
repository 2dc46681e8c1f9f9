"""`prox plugin`: what authors of plugins see on their terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from prox.cli import main

PLUGIN = f"""#!{sys.executable}
import os
import sys
from prox.sdk import Plugin

plugin = Plugin()

@plugin.on_configure
def configured(route):
    if route.id == "refused:0":
        raise ValueError("not mine")
    plugin.log.info("bound", route=route.id)
    route.set_targets(["10.0.0.1:80"])

@plugin.on_request
def decide(request):
    match request.path:
        case "/fail": raise RuntimeError("no luck")
        case "/exit": os._exit(3)
        case "/drop": return request.drop()
        case "/fallback": return request.fallback()
        case "/deny": return request.deny(401, "first\\nsecond\\n", {{"Retry-After": "5"}})
        case "/odd": return request.allow({{"Content-Length": "1", "a b": "c", "X": "1\\r2"}})
        case "/more": return request.allow(path="/y", strip_query=True, download_mbps=8)
        case "/stderr": print("to stderr")
    return request.allow({{"Saw": repr([request.method, request.query, request.headers.get("x-a"), request.body,
        request.client, request.route_id, request.match_domain, request.match_path, dict(request.vars),
        request.target, request.domain, sys.argv[1:], os.environ.get("MORE")])}})

@plugin.on_response
def change(response):
    if response.status == 200:
        return None
    return response.modify(500, {{"Saw": response.headers["x-b"]}}, ["Server"])

@plugin.on_connect
def connect(connection):
    return connection.domain == "good.test"

plugin.run()
"""


@pytest.fixture
def guard(tmp_path: Path) -> str:
    path = tmp_path / "guard.py"
    path.write_text(PLUGIN)
    path.chmod(0o755)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plugin", *arguments])
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


def table(out: str) -> list[list[str]]:
    return [line.split(maxsplit=1) for line in out.splitlines()]


# call


@pytest.mark.parametrize(
    ("path", "verdict", "rows"),
    [
        (
            "/deny",
            "deny",
            ["status      401", "body        first", "            second", "header      Retry-After: 5"],
        ),
        ("/drop", "drop", []),
        ("/fallback", "fallback", []),
        (
            "/more",
            "allow",
            ["speed       download 8 Mbps", "no query    True", "to path     /y"],
        ),
        ("/stderr", "allow", ["stderr      to stderr"]),
        (
            "/odd",
            "allow",
            [
                "warning     prox leaves a header out: Content-Length is set by prox itself",
                "warning     prox leaves a header out: 'a b' is no name of a header",
                r"warning     prox leaves a header out: the value of X has control characters: '1\r2'",
            ],
        ),
    ],
)
def test_a_verdict(
    capsys: pytest.CaptureFixture[str], guard: str, path: str, verdict: str, rows: list[str]
) -> None:
    code, out, err = run(capsys, "call", guard, "--path", path)
    first, *more = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith(f"on_request  {verdict}, after ")
    assert first.endswith(" ms")
    assert [row for row in rows if row not in more] == []
    assert "log         INFO bound route=web:0" in more
    assert 'push        {"method":"set_targets","route_id":"web:0","targets":["10.0.0.1:80"]}' in more


def test_features_are_shown_and_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "featured.py"
    path.write_text(
        f"""#!{sys.executable}
from prox.sdk import Plugin, modify
plugin = Plugin(features=["headers.multi", "response.allow", "trace"])

@plugin.on_request
def ask(request):
    seen = request.headers.get_all("cookie")
    return request.allow(dict(Seen=seen, Trace=request.trace.id, Gone=[]), append=dict(Host="x"), remove=["X-A"],
        response=modify(append={{"Set-Cookie": request.trace.state}}, remove=["Server"]))

@plugin.on_response
def answer(response):
    return response.modify(append=dict(Seen=response.headers.get_all("set-cookie")))

plugin.run()
"""
    )
    path.chmod(0o755)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = ["-H", "Cookie: a", "-H", "cookie: b", "-H", f"traceparent: {trace}", "-H", "tracestate: x=y"]
    code, out, _ = run(capsys, "call", str(path), *headers)
    assert code == 0
    assert out.splitlines()[1:] == [
        "header           Trace: 0af7651916cd43dd8448eb211c80319c",
        "remove           X-A",
        "header           Seen: a",
        "header           Seen: b",
        "remove           Gone",
        "append           Host: x",
        "response remove  Server",
        "response append  Set-Cookie: x=y",
        "warning          prox leaves a header out: Host has one value, nothing can be appended to it",
    ]
    cookies = [
        "--response",
        "200",
        "--response-header",
        "Set-Cookie: 1",
        "--response-header",
        "set-cookie: 2",
    ]
    code, out, _ = run(capsys, "call", str(path), "--json", *cookies)
    assert json.loads(out)["result"]["changes"] == {"remove": [], "set": {}, "append": {"Seen": ["1", "2"]}}


def test_everything_that_a_request_can_be(
    capsys: pytest.CaptureFixture[str], guard: str, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(b"\xff=")
    options = (
        "--json --method PUT --path /a?b=c --header X-A:1 --domain a.test --client 10.0.0.1:5 --route api:3"
        " --match-domain a --match-path /* --var x=y=z --target 10.0.0.2:80 --arg=-v --env MORE=m=n"
    )
    body = f"@{tmp_path}/body"
    code, out, _ = run(capsys, "call", guard, *options.split(), "--body", body)
    assert code == 0
    shown = json.loads(out)
    saw = (
        r"""['PUT', 'b=c', '1', b'\xff=', '10.0.0.1:5', 'api:3', 'a', '/*', {'x': 'y=z'}, '10.0.0.2:80', """
        """'a.test', ['-v'], 'm=n']"""
    )
    assert shown.pop("milliseconds") > 0
    assert shown == {
        "hook": "on_request",
        "verdict": "allow",
        "result": {"allow": True, "headers": {"Saw": saw}},
        "logs": [{"level": "info", "message": "bound", "fields": {"route": "api:3"}}],
        "pushes": [{"method": "set_targets", "route_id": "api:3", "targets": ["10.0.0.1:80"]}],
        "stderr": "",
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("options", "hook", "verdict", "result"),
    [
        ("--response 200", "on_response", "no change", {}),
        (
            "--response 404 --response-header x-b:1",
            "on_response",
            "change",
            {"status": 500, "headers": {"Saw": "1"}, "remove": ["Server"]},
        ),
        ("--connect good.test", "on_connect", "allow", {"allow": True}),
        ("--connect bad.test", "on_connect", "deny", {"allow": False}),
    ],
)
def test_the_other_hooks(
    capsys: pytest.CaptureFixture[str],
    guard: str,
    options: str,
    hook: str,
    verdict: str,
    result: dict[str, Any],
) -> None:
    code, out, _ = run(capsys, "call", guard, "--json", *options.split())
    shown = json.loads(out)
    assert code == 0
    assert (shown["hook"], shown["verdict"], shown["result"]) == (hook, verdict, result)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--path /fail", "on_request failed: Traceback"),
        ("--path /exit", "the plugin has ended with status 3"),
        ("--route refused:0", "ValueError: not mine"),
    ],
)
def test_a_plugin_that_fails(capsys: pytest.CaptureFixture[str], guard: str, options: str, said: str) -> None:
    code, out, err = run(capsys, "call", guard, *options.split())
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--header nothing", "'nothing' is not NAME:VALUE"),
        ("--env =x", "'=x' is not NAME=VALUE"),
        ("--connect a --response 200", "does not go with --response"),
        ("--response-header a:b", "goes with --response"),
        ("--body @/nowhere", "/nowhere: No such file or directory"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], guard: str, options: str, said: str) -> None:
    code, _, err = run(capsys, "call", guard, *options.split())
    assert code == 2
    assert said in err


def test_what_is_no_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    for path, said in (
        (tmp_path / "none", "there is no such program"),
        (tmp_path, "it is a folder without Go source"),
        (tmp_path / "plain", "it is not executable (chmod +x"),
    ):
        code, _, err = run(capsys, "call", str(path))
        assert code == 2
        assert said in err


# check


def test_a_right_plugin(capsys: pytest.CaptureFixture[str], guard: str) -> None:
    code, out, err = run(capsys, "check", guard, "--only", "ready", "--only", "on_disconnect.*")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ready",
        "  ok    said",
        "  ok    hooks",
        "  ok    listening",
        "  ok    private",
        "  ok    after-configure",
        "on_disconnect",
        "  skip  no-answer: the plugin does not serve on_disconnect",
        "  skip  many-in-one-write: the plugin does not serve on_disconnect",
        f"{guard}: 5 passed, 2 skipped",
    ]


def test_a_plugin_with_a_fault(capsys: pytest.CaptureFixture[str], guard: str) -> None:
    path = Path(guard)
    path.write_text(
        path.read_text().replace("import os\n", "import os, sys\nif sys.argv[1:] == ['-x']: sys.exit(3)\n")
    )
    code, out, _ = run(capsys, "check", guard, "--only", "lines", "--arg=-x")
    assert code == 1
    assert "  FAIL  configure-acknowledged: The first configure is answered with ok." in out
    assert "          the plugin has ended with status 3" in out
    assert "          See docs/reference/protocol.md#answers-to-configure" in out
    assert out.endswith(f"{guard}: 1 failed, 11 skipped\n")
    code, out, _ = run(capsys, "check", guard, "--only", "lines.long", "--arg=-x", "--json")
    assert code == 1
    shown = json.loads(out)
    assert (shown["passed"], shown["failed"], shown["skipped"]) == (0, 1, 1)
    assert [check["name"] for check in shown["checks"]] == ["lines.configure-acknowledged", "lines.long"]
    code, out, _ = run(capsys, "check", guard, "--only", "lines.long", "--env", "X=y", "--json")
    assert code == 0
    assert json.loads(out)["checks"][0]["result"] == "pass"


def test_checks_that_there_are(capsys: pytest.CaptureFixture[str], guard: str) -> None:
    code, out, _ = run(capsys, "check", "--list")
    assert code == 0
    assert len(out.splitlines()) > 40
    assert "life.sigterm                     SIGTERM ends the plugin." in out.splitlines()
    code, _, err = run(capsys, "check", guard, "--only", "nothing")
    assert code == 2
    assert "there is no check 'nothing'; --list shows them" in err


# new


def test_a_new_plugin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "new", "plugins/my-guard")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "plugins/my-guard/my-guard.py: written",
        "plugins/my-guard/test_my_guard.py: written",
        "plugins/my-guard/config.json5: written",
        "",
        "Try it:",
        "  cd plugins/my-guard",
        '  prox plugin call my-guard.py -H "X-Api-Key: k-alice"',
        "  prox plugin check my-guard.py",
        "  pytest",
        "  prox serve",
    ]
    code, out, err = run(capsys, "new", "plugins/my-guard", "--language", "go")
    assert (code, out) == (1, "")
    assert "not empty" in err
    assert run(capsys, "new", "x", "-l", "cobol")[0] == 2
