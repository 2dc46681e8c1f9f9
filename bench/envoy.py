"""Envoy as a peer: where its program is, and a configuration that does what the other recipes do.

The program comes in a wheel that `script/bench` installs for the benchmark alone; where there is none for a
machine, Envoy is left out and the report says so.

The hooked route asks the same authorizer as nginx's auth_request, over HTTP, by the filter ext_authz. The request's
headers go to it, as nginx and prox show them too, and X-User comes back from it. The filter is off on the
other routes. Statistics stay as they are by default; what would do work that the others don't (request ids, headers
of its own, a limit of time on the whole answer) is off.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.front import Front
from bench.load import HEADERS

if TYPE_CHECKING:
    from bench.origin import Origin

PROGRAM = Path(__file__).resolve().parents[1] / "build" / "bench" / "envoy" / "_bin" / "envoy"

_TYPES = "type.googleapis.com/envoy.extensions.filters"
_AUTHORIZER = "envoy.filters.http.ext_authz"
_UNHOOKED = {_AUTHORIZER: {"@type": f"{_TYPES}.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}}


def available() -> bool:
    """Whether the program is there."""
    return os.access(PROGRAM, os.X_OK)


def version() -> str:
    """Its version, or `missing`."""
    if not available():
        return "missing"
    done = subprocess.run([str(PROGRAM), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version: [0-9a-f]+/([^/]+)/", done.stdout)
    return found[1] if found else "unknown"


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _route(prefix: str, cluster: str, *, hooked: bool = False) -> dict[str, object]:
    return {
        "match": {"prefix": prefix},
        "route": {"cluster": cluster, "timeout": "0s"},
        "typed_per_filter_config": {} if hooked else _UNHOOKED,
    }


def _ext_authz(port: int) -> dict[str, object]:
    return {
        "@type": f"{_TYPES}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "allowed_headers": {"patterns": [{"exact": name.lower()} for name in HEADERS]},
        "http_service": {
            "server_uri": {"uri": f"http://127.0.0.1:{port}", "cluster": "auth", "timeout": "5s"},
            "authorization_response": {"allowed_upstream_headers": {"patterns": [{"exact": "x-user"}]}},
        },
    }


def _manager(origin: Origin) -> dict[str, object]:
    routes = [_route("/hook/", "origin", hooked=True), _route("/upload", "sink"), _route("/", "origin")]
    forwarded_host = {
        "header": {"key": "X-Forwarded-Host", "value": "%REQ(:AUTHORITY)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    router = {"@type": f"{_TYPES}.http.router.v3.Router", "suppress_envoy_headers": True}
    return {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "codec_type": "AUTO",  # what a client of TLS has chosen; HTTP/1.1 without TLS
        "use_remote_address": True,  # adds X-Forwarded-For and -Proto
        "generate_request_id": False,
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "stream_idle_timeout": "300s",
        "route_config": {
            "request_headers_to_add": [forwarded_host],
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {"name": _AUTHORIZER, "typed_config": _ext_authz(origin.auth)},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }


def _tls(origin: Origin) -> dict[str, object]:
    pair = {"filename": str(origin.certificate)}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{"certificate_chain": pair, "private_key": pair}],
            },
        },
    }


def command(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    """Writes envoy.json into `folder` and gives the command that serves it with one worker."""
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _manager(origin),
    }
    chain: dict[str, object] = {"filters": [manager]}
    if front is Front.TLS:
        chain["transport_socket"] = _tls(origin)
    listener = {
        "name": "web",
        "address": _address(port),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    }
    clusters = [
        _cluster("origin", origin.http),
        _cluster("auth", origin.auth),
        _cluster("sink", origin.sink),
    ]
    config = folder / "envoy.json"
    document = {"static_resources": {"listeners": [listener], "clusters": clusters}}
    config.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return [str(PROGRAM), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
