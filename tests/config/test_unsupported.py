"""Each row of the table of what this version does not do yet, and that nothing else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prox.config import load, parse, unbuilt
from prox.config.unsupported import UNBUILT

PROXY = {"type": "proxy", "upstream": "a:1"}
ACME = {"email": "a@example.com", "domains": ["a.example.com"]}


def service(**keys: Any) -> dict[str, Any]:
    return {"services": {"web": {"listen": ":1", **keys}}}


def tuning(**keys: Any) -> dict[str, Any]:
    return service(config=keys)


def route(**keys: Any) -> dict[str, Any]:
    return service(routes=[{"action": {"type": "drop"}, **keys}])


def proxy(**keys: Any) -> dict[str, Any]:
    return {"actions": {"web": {**PROXY, **keys}}}


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"admin": {"listen": "127.0.0.1:9090"}}, ["admin"]),
    (service(tls=True, acme=ACME), ["services.web.acme"]),
]

NOTED: list[tuple[dict[str, Any], list[str]]] = [
    ({"runtime": {"workers": 2}}, ["runtime.workers"]),
    (tuning(disable_compression=False), ["services.web.config.disable_compression"]),
    (tuning(flush_interval="50ms"), ["services.web.config.flush_interval"]),
    (tuning(read_buffer_size=1), ["services.web.config.read_buffer_size"]),
    (tuning(write_buffer_size=1), ["services.web.config.write_buffer_size"]),
]

FINE: list[dict[str, Any]] = [
    {},
    {"runtime": {"workers": 1, "shutdown_timeout": "1s", "dot_segments": "pass"}},
    {"logging": {"level": "debug", "access_log": "a", "error_log": "b"}},
    service(h2=False, tls=False, trusted_proxies=["10.0.0.0/8"]),
    tuning(
        **dict.fromkeys(
            (
                *(
                    "read_timeout",
                    "write_timeout",
                    "read_header_timeout",
                    "idle_timeout",
                    "response_header_timeout",
                ),
                *("keep_alive", "dial_timeout"),
            ),
            "1s",
        ),
        **dict.fromkeys(
            (
                *(
                    "min_body_rate",
                    "max_idle_conns",
                    "max_idle_conns_per_host",
                    "max_requests_per_connection",
                ),
                *(
                    "max_pipelined",
                    "max_header_bytes",
                    "max_header_count",
                    "max_target_bytes",
                    "max_body_bytes",
                ),
            ),
            1,
        ),
        flush_interval=-1,
        disable_compression=True,
        max_connections=0,
        h2c=False,
        proxy_protocol=False,
        tls_client_auth="off",
        relay_idle_timeout=0,
    ),
    route(match={"forward_proxy": False, "path": "/"}, set={"a": "b"}, plugin_timeout="1s", access_log="off"),
    proxy(stream=True, timeout="1s", headers={"X-A": "b"}, fallback={"type": "drop"}, max_connections=0),
    {
        "plugins": {
            "p": {
                "path": "p",
                "own_headers": ["X-User"],
                "max_concurrency": 1,
                "env_pass": ["A"],
                "cwd": "/",
                "limits": {
                    "memory": 1,
                    "open_files": 1,
                    "cpu_time": 1,
                    "nice": 1,
                    "user": "root",
                    "group": 0,
                },
            }
        }
    },
]


@pytest.mark.parametrize(("document", "paths"), [*REFUSED, *NOTED], ids=lambda value: str(value)[:60])
def test_what_does_not_act_yet_is_said(tmp_path: Path, document: dict[str, Any], paths: list[str]) -> None:
    (tmp_path / "pair.pem").touch()
    (tmp_path / "pair.key").touch()
    loaded = parse(document, tmp_path)
    severity = "error" if (document, paths) in REFUSED else "note"
    found = unbuilt(loaded.config)
    assert sorted(problem.path for problem in found) == sorted(paths)
    assert {problem.severity for problem in found} == {severity}
    assert {problem.path for problem in loaded.unbuilt()} == {problem.path for problem in found}


@pytest.mark.parametrize("document", FINE, ids=lambda value: str(value)[:60])
def test_what_acts_is_not_mentioned(document: dict[str, Any]) -> None:
    assert unbuilt(parse(document, Path("/")).config) == []


def test_every_row_is_tested() -> None:
    rows = {key for rows in UNBUILT.values() for key in rows}
    tested = {path.rpartition(".")[2] for _, paths in [*REFUSED, *NOTED] for path in paths}
    assert rows <= tested


def test_findings_are_placed_in_the_files_they_come_from() -> None:
    golden = Path(__file__).parent / "golden/fine"
    placed = load(golden / "config.json5").unbuilt()
    assert golden / "sites/web.json5" in {problem.file for problem in placed}
    assert all(problem.line and problem.column for problem in placed)
