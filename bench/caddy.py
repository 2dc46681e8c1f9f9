"""Caddy as a peer for HTTP/2: where its program is, and a configuration that does what the other recipes do.

The program comes in a wheel that `script/bench` installs for the benchmark alone; where there is none for a machine,
Caddy is left out and the report says so. Go takes as many threads for running as the process may use cores: one.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.front import Front

if TYPE_CHECKING:
    from bench.origin import Origin

PROGRAM = Path(__file__).resolve().parents[1] / "build" / "bench" / "bin" / "caddy"


def available() -> bool:
    """Whether the program is there."""
    return os.access(PROGRAM, os.X_OK)


def version() -> str:
    """Its version, or `missing`."""
    if not available():
        return "missing"
    done = subprocess.run([str(PROGRAM), "version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[0].removeprefix("v") if words else "unknown"


def _proxied(port: int) -> list[dict[str, object]]:
    # It adds X-Forwarded-For, -Host and -Proto by itself.
    kept = {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 128}, "compression": False}
    upstreams = [{"dial": f"127.0.0.1:{port}"}]
    return [{"handler": "reverse_proxy", "upstreams": upstreams, "transport": kept}]


def command(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    """Writes caddy.json into `folder` and gives the command that serves it."""
    server: dict[str, object] = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1", "h2"],
        "routes": [
            {"match": [{"path": ["/upload"]}], "handle": _proxied(origin.sink)},
            {"handle": _proxied(origin.http)},
        ],
    }
    apps: dict[str, object] = {"http": {"servers": {"web": server}}}
    if front is Front.TLS:
        pair = str(origin.certificate)
        # Clients of the load send no name.
        server["tls_connection_policies"] = [{"fallback_sni": "bench.test"}]
        apps["tls"] = {"certificates": {"load_files": [{"certificate": pair, "key": pair}]}}
    document = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "storage": {"module": "file_system", "root": str(folder)},
        "apps": apps,
    }
    config = folder / "caddy.json"
    config.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return ["env", f"HOME={folder}", str(PROGRAM), "run", "--config", str(config)]
