"""Rules over the whole configuration. The messages are in the golden files; here is who passes and who does not."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from prox.config import ConfigError, parse

BALANCED = {"balancer": {}, "action": {"type": "proxy", "upstream": "{target}"}}


def messages(document: dict[str, Any], base: Path = Path("/")) -> list[str]:
    try:
        parse(document, base)
    except ConfigError as error:
        return [problem.message for problem in error.problems if problem.severity == "error"]
    return []


@pytest.mark.parametrize(
    ("finder", "place", "fills"),
    [
        ({}, "route", True),
        ({}, "service", True),
        ({}, "action", True),
        ({"push_scope": "bound"}, "route", True),
        ({}, "other route", True),
        ({"push_scope": "bound"}, "other route", False),
        ({"autostart": True}, "nowhere", True),
        ({"autostart": True, "push_scope": "bound"}, "nowhere", False),
        ({}, "nowhere", False),
    ],
)
def test_an_empty_balancer_needs_a_plugin_that_may_push(
    finder: dict[str, Any], place: str, fills: bool
) -> None:
    bound = {"plugins": ["finder"]}
    drop = {"type": "drop"}
    found = messages(
        {
            "plugins": {"finder": {"path": "finder", **finder}},
            "services": {
                "web": {
                    "listen": ":1",
                    **(bound if place == "service" else {}),
                    "routes": [
                        {
                            **BALANCED,
                            **(bound if place == "route" else {}),
                            "action": {
                                "type": "proxy",
                                "upstream": "{target}",
                                **(bound if place == "action" else {}),
                            },
                        },
                    ],
                },
                "other": {
                    "listen": ":2",
                    "routes": [{"action": drop, **(bound if place == "other route" else {})}],
                },
            },
        }
    )
    expected = [] if fills else ["the balancer has no targets, and no plugin can push any to it"]
    assert found == expected


@pytest.mark.parametrize(
    ("upstream", "targets", "ok"),
    [
        ("{target}", [], True),
        ("http://{target}", [], True),
        ("http://{target}/x", [], True),
        ("http://{target}:8080", [], True),
        ("{target}/x", [], False),
        ("http://a:{target}", [], False),
        ("http://{target}:8080", ["10.0.0.1", "web"], True),
        ("http://{target}:8080", ["[::1]"], True),
        ("{target}", ["http://a", "https://b:1", "c:1"], True),
        ("{target}", ["c"], False),
    ],
)
def test_a_template_must_become_an_upstream(upstream: str, targets: list[str], ok: bool) -> None:
    found = messages(
        {
            "plugins": {"finder": {"path": "finder", "autostart": True}},
            "services": {
                "web": {
                    "listen": ":1",
                    "routes": [
                        {"balancer": {"targets": targets}, "action": {"type": "proxy", "upstream": upstream}}
                    ],
                }
            },
        }
    )
    assert (found == []) is ok


@pytest.mark.parametrize(
    ("acme", "domain", "ok"),
    [
        ({}, "a.example.com", True),
        ({}, None, False),
        ({}, "*.example.com", False),
        ({"challenge": "dns", "dns": {"provider": "cloudflare"}}, "*.example.com", True),
        ({"challenge": "dns", "dns": {"provider": "cloudflare", "discover": True}}, None, True),
        ({"domains": ["a.example.com"]}, "*.example.com", True),
    ],
)
def test_certificates_need_domains(acme: dict[str, Any], domain: str | None, ok: bool) -> None:
    route = {"action": {"type": "drop"}} | ({"match": {"domain": domain}} if domain else {})
    found = messages(
        {"services": {"web": {"listen": ":1", "acme": {"email": "a@example.com", **acme}, "routes": [route]}}}
    )
    assert (found == []) is ok


def test_warnings_about_programs_and_files(tmp_path: Path) -> None:
    (tmp_path / "fine").touch(mode=0o755)
    (tmp_path / "text").touch(mode=0o644)
    (tmp_path / "package").mkdir()
    for source in ("main.go", "old.go", "built.go", "script.go", "cmd/main.go", "cmd/main_test.go"):
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).touch()
    for built, changed in (("old", -5), ("built", 5)):
        program = tmp_path / built
        program.write_bytes(b"\x7fELF")
        program.chmod(0o755)
        os.utime(program, (time.time() + changed,) * 2)
    (tmp_path / "script").touch(mode=0o755)
    names = [
        "fine",
        "text",
        "package",
        "main.go",
        "main",
        "old",
        "built.go",
        "script",
        "cmd",
        "none.go",
        "gone",
    ]
    serve = [
        {"type": "serve", "root": "package"},
        {"type": "serve", "root": "fine"},
        {"type": "serve", "file": "fine"},
        {"type": "serve", "file": "package"},
    ]
    loaded = parse(
        {
            "plugins": {name.replace(".", "_"): {"path": name} for name in names},
            "services": {
                "web": {
                    "listen": ":1",
                    "routes": [
                        *({"action": action} for action in serve),
                        {
                            "action": {
                                "type": "proxy",
                                "upstream": "a:1",
                                "fallback": serve[1],
                                "plugins": ["./no"],
                            }
                        },
                        {"action": {"type": "drop"}, "plugins": ["./no", "fine"]},
                    ],
                }
            },
        },
        tmp_path,
    )
    found = {
        (problem.path, problem.message.replace(f"{tmp_path}/", ""), problem.hint)
        for problem in loaded.warnings
    }
    assert found == {
        ("plugins.text.path", "the program text is not executable", f"chmod +x {tmp_path}/text"),
        ("plugins.package.path", "package is a folder without Go source", ""),
        ("plugins.main_go.path", "the program main must be compiled from main.go", 'run "prox build"'),
        ("plugins.old.path", "old.go has changed since old was compiled", 'run "prox build"'),
        ("plugins.cmd.path", "the program cmd/cmd must be compiled from cmd", 'run "prox build"'),
        ("plugins.none_go.path", "there is neither none.go nor the program none", ""),
        ("plugins.main.path", "the program main must be compiled from main.go", 'run "prox build"'),
        ("plugins.gone.path", "there is no program gone", ""),
        ("services.web.routes[1].action.root", "there is no folder fine", ""),
        ("services.web.routes[3].action.file", "there is no file package", ""),
        ("services.web.routes[4].action.fallback.root", "there is no folder fine", ""),
        ("services.web.routes[5].plugins[0]", "there is no program no", ""),
    }


def test_certificate_folders(tmp_path: Path) -> None:
    def found() -> list[str]:
        return messages({"services": {"web": {"listen": ":1", "tls_cert": "certs"}}}, tmp_path)

    assert found() == ['can\'t read "certs": no such file or directory']
    (tmp_path / "certs").mkdir()
    assert found() == ['there is no certificate in "certs"']
    (tmp_path / "certs/a.crt").touch()
    (tmp_path / "certs/b.pem").touch()
    (tmp_path / "certs/a.key").touch()
    assert found() == ['the certificate "b.pem" in "certs" has no key "b.key"']
    (tmp_path / "certs/b.key").touch()
    assert found() == []
    (tmp_path / "certs/b.key").unlink()
    (tmp_path / "certs/b.key").mkdir()
    assert found() == ['can\'t read "certs/b.key": it is a folder']


def test_port_zero_and_one_admin_may_stand_beside_each_other() -> None:
    services = {name: {"listen": "127.0.0.1:0"} for name in "abc"}
    assert messages({"services": services, "admin": {"listen": "127.0.0.1:0"}}) == []


@pytest.mark.parametrize(("kept", "warned"), [("pass", False), ("reject", True)])
def test_paths_with_dot_segments_match_only_where_they_pass(kept: str, warned: bool) -> None:
    route = {"match": {"path": "/a/.."}, "action": {"type": "drop"}}
    loaded = parse(
        {"runtime": {"dot_segments": kept}, "services": {"web": {"listen": ":1", "routes": [route]}}},
        Path("/"),
    )
    assert bool(loaded.warnings) is warned


@pytest.mark.parametrize(
    "broken",
    [
        {"plugin": ["finder"], "action": {"type": "drop"}},
        {"plugins": ["finder", "fnder"], "action": {"type": "drop"}},
        {"acton": {"type": "drop", "plugins": ["finder"]}},
        {"action": {"type": "drop", "plugins": ["finder"], "x": 1}},
        {"action": "broken"},
        7,
    ],
    ids=str,
)
def test_a_mistake_that_may_hide_a_plugin_has_no_second_message(broken: object) -> None:
    found = messages(
        {
            "plugins": {"finder": {"path": "finder"}},
            "actions": {"broken": {"type": "drop", "plugins": ["finder"], "x": 1}}
            if broken == {"action": "broken"}
            else {},
            "services": {"web": {"listen": ":1", "routes": [BALANCED, broken]}},
        }
    )
    assert found
    assert not [message for message in found if "no targets" in message]


def test_a_log_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "access.log").touch()
    os.mkfifo(tmp_path / "pipe")
    document: dict[str, Any] = {"logging": {"access_log": "access.log", "error_log": "pipe"}}
    assert messages(document, tmp_path) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert messages({"services": {"web": {"listen": f"unix://{tmp_path}/s"}}}, tmp_path) == []
        assert messages({"logging": {"error_log": "s"}}, tmp_path) == [
            f"the log file can't be opened: {tmp_path}/s is a socket"
        ]
