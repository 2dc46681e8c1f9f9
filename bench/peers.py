"""The proxies that are compared: how each is configured, started, checked and measured.

All do the same work: HTTP/1.1 both ways with kept connections, X-Forwarded-For, -Host and -Proto added, no
access log, one worker on one core. A peer is one function in `PEERS`, which writes a configuration and
gives a command; one that can ask an authorizer is also in `HOOKED`. Over TLS all show the same certificate and offer
HTTP/2; where it is passed on, those in `PASSING` look at the name in the ClientHello and relay bytes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import caddy, envoy, measure
from bench.front import NAME, Front
from bench.origin import nginx_command
from bench.processes import BenchError, Child, free_port, get, prefer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.machine import Cores
    from bench.origin import Origin

GUARD = Path(__file__).resolve().with_name("guard.py")
BYSTANDER = GUARD.with_name("bystander.py")
PROX = Path(sys.executable).with_name("prox")

BASELINE = "nginx"

_ADDRESS = re.compile(rb"[0-9.]+")

# proxy_buffering stays on, as it is by default, but not to disk: a slow client would measure the disk.
# Uploads are streamed, as prox does it, for the same reason.
_NGINX = """\
  server_tokens off;
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  upstream origin {{ server 127.0.0.1:{origin.http}; keepalive 128; keepalive_requests 1000000000; }}
  upstream auth {{ server 127.0.0.1:{origin.auth}; keepalive 128; keepalive_requests 1000000000; }}
  upstream sink {{ server 127.0.0.1:{origin.sink}; keepalive 128; keepalive_requests 1000000000; }}
  proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{
    listen 127.0.0.1:{port} backlog=4096{tls};
    location / {{ proxy_pass http://origin; }}
    location /upload {{ proxy_pass http://sink; }}
    location /hook/ {{
      auth_request /auth;
      auth_request_set $user $upstream_http_x_user;
      proxy_set_header X-User $user;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_pass http://origin;
    }}
    location = /auth {{
      internal;
      proxy_pass http://auth;
      proxy_pass_request_body off;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Original-URI $request_uri;
    }}
  }}
"""

_NGINX_TLS = """\
 ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate}"""

_NGINX_PASSING = """\
  map $ssl_preread_server_name $target {{ {name} 127.0.0.1:{origin.tls}; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    ssl_preread on;
    proxy_pass $target;
  }}
"""

_HAPROXY = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
frontend web
  bind 127.0.0.1:{port} backlog 4096{tls}
  option forwardfor
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Forwarded-Proto {scheme}
  use_backend sink if {{ path_beg /upload }}
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin.http}
backend sink
  server sink 127.0.0.1:{origin.sink}
"""


_HAPROXY_PASSING = """\
global
  nbthread 1
  maxconn 2048
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend web
  bind 127.0.0.1:{port} backlog 4096
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  use_backend origin if {{ req.ssl_sni {name} }}
backend origin
  server origin 127.0.0.1:{origin.tls}
"""


def _nginx(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    if front is Front.PASSED:
        return nginx_command(folder, stream=_NGINX_PASSING.format(port=port, origin=origin, name=NAME))
    tls = _NGINX_TLS.format(certificate=origin.certificate) if front is Front.TLS else ""
    return nginx_command(folder, http=_NGINX.format(port=port, origin=origin, tls=tls))


def _haproxy(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    config = folder / "haproxy.cfg"
    recipe = _HAPROXY_PASSING if front is Front.PASSED else _HAPROXY
    tls = f" ssl crt {origin.certificate} alpn h2,http/1.1" if front is Front.TLS else ""
    text = recipe.format(port=port, origin=origin, name=NAME, tls=tls, scheme=front.scheme)
    config.write_text(text, encoding="utf-8")
    return ["haproxy", "-db", "-f", str(config)]


_GUARDED: dict[str, object] = {"match": {"path": "/hook/*"}, "plugins": ["guard"], "action": "origin"}
_UPLOAD: dict[str, object] = {"match": {"path": "/upload"}, "action": "sink"}
_REST: dict[str, object] = {"action": "origin"}


def _prox(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    routes = [_GUARDED, _UPLOAD, _REST]
    if front is Front.PASSED:
        passed = {"type": "pass", "upstream": f"127.0.0.1:{origin.tls}"}
        routes = [{"match": {"domain": NAME}, "action": passed}]
    return _serve(folder, port, origin, routes, {"guard": GUARD}, front)


def _prox_pluginless(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    # As many routes as above: what is compared is plugins, not routing.
    unguarded = {name: value for name, value in _GUARDED.items() if name != "plugins"}
    return _serve(folder, port, origin, [unguarded, _UPLOAD, _REST], {}, front)


def _prox_bystander(folder: Path, port: int, origin: Origin, front: Front) -> list[str]:
    watched = {**_REST, "plugins": ["bystander"]}
    plugins = {"guard": GUARD, "bystander": BYSTANDER}
    return _serve(folder, port, origin, [_GUARDED, _UPLOAD, watched], plugins, front)


def _serve(
    folder: Path,
    port: int,
    origin: Origin,
    routes: list[dict[str, object]],
    plugins: dict[str, Path],
    front: Front,
) -> list[str]:
    web: dict[str, object] = {"listen": f"127.0.0.1:{port}", "routes": routes}
    if front is Front.TLS:
        web |= {"tls_cert": str(origin.certificate), "tls_key": str(origin.certificate)}
    config = folder / "config.json5"
    document = {
        "services": {"web": web},
        "plugins": {name: {"path": str(path)} for name, path in plugins.items()},
        "actions": {
            "origin": {"type": "proxy", "upstream": f"127.0.0.1:{origin.http}"},
            "sink": {"type": "proxy", "upstream": f"127.0.0.1:{origin.sink}"},
        },
    }
    config.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return [str(PROX), "serve", "-c", str(config), "--no-watch", "--workers", "1"]


PEERS: dict[str, Callable[[Path, int, Origin, Front], list[str]]] = {
    BASELINE: _nginx,
    "haproxy": _haproxy,
    "envoy": envoy.command,
    "caddy": caddy.command,
    "prox": _prox,
}
PLUGINLESS = "prox-pluginless"
"""prox with no plugin in its configuration."""
WATCHED = "prox-bystander"
"""prox with a plugin on the route of the small answers that has no hook for requests."""
RECIPES = {**PEERS, PLUGINLESS: _prox_pluginless, WATCHED: _prox_bystander}
HOOKED = frozenset({BASELINE, "envoy", "prox"})
PASSING = frozenset({BASELINE, "haproxy", "prox"})


def _is_plugin(command: bytes) -> bool:
    words = command.split(b"\0")
    return os.fsencode(GUARD) in words or os.fsencode(BYSTANDER) in words


class Peer:
    """One running proxy."""

    def __init__(self, name: str, port: int, child: Child, front: Front) -> None:
        self.name = name
        self.port = port
        self.child = child
        self.front = front

    def pids(self) -> list[int]:
        """Its processes, without plugins."""
        return measure.tree(self.child.pid, _is_plugin)[0]

    def cpu(self) -> measure.Cpu:
        """CPU time spent by `pids()`."""
        return measure.cpu(self.pids())

    def wait(self) -> None:
        """Returns when it passes requests on; where it can, past its authorizer."""
        hooked = self.name in HOOKED and self.front is not Front.PASSED
        path, wanted = ("/hook/seen", (200, b"u1")) if hooked else ("/small", (200, b"ok"))
        self.child.wait(lambda: self._get(path) == wanted)

    def _get(self, path: str) -> tuple[int, bytes]:
        return get(self.port, path, self.front)

    def check(self) -> None:
        """Sees that it does the work that it is measured at.

        Raises:
            BenchError: it does not.
        """
        if self._get("/small") != (200, b"ok"):
            raise BenchError(f"{self.name} does not pass the small answer on")
        status, body = self._get("/64k")
        if status != 200 or len(body) != 65536:
            raise BenchError(f"{self.name} answers /64k with {status}, {len(body)} bytes")
        if self.front is Front.PASSED:
            return
        _, seen = self._get("/seen")
        # For a client on the loopback Envoy names the machine's own address.
        client, _, rest = seen.partition(b" ")
        if rest.decode() != f"127.0.0.1:{self.port} {self.front.scheme}" or not _ADDRESS.fullmatch(client):
            raise BenchError(f"{self.name} adds other forwarding headers: {seen!r}")

    def move_plugins(self, cores: Cores) -> None:
        """Takes plugins, which inherited the proxy's core, off it; they are sessions of their own."""
        for pid in measure.tree(self.child.pid, _is_plugin)[1]:
            prefer(pid)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores.others)


@contextmanager
def launched(
    name: str,
    folder: Path,
    origin: Origin,
    cores: frozenset[int],
    under: Sequence[str] = (),
    front: Front = Front.PLAIN,
) -> Iterator[Peer]:
    """Starts a proxy, without waiting for it; its files are in a new folder below `folder`.

    Args:
        name: Of the recipe.
        folder: Of the run.
        origin: What it stands before.
        cores: Where it may run, and its plugins until they are moved.
        under: A command that runs another one, such as a profiler.
        front: What it listens for.
    """
    number = sum(1 for _ in folder.iterdir())
    own = folder / f"{name}-{number}"
    own.mkdir()
    port = free_port()
    child = Child(name, [*under, *RECIPES[name](own, port, origin, front)], own / "log", cores)
    try:
        yield Peer(name, port, child, front)
    finally:
        child.stop()


@contextmanager
def running(
    name: str,
    folder: Path,
    origin: Origin,
    cores: Cores,
    under: Sequence[str] = (),
    front: Front = Front.PLAIN,
) -> Iterator[Peer]:
    """Starts a proxy on its core; it is ready and checked, and its plugins are on the other cores."""
    with launched(name, folder, origin, cores.proxy, under, front) as peer:
        peer.wait()
        peer.check()
        peer.move_plugins(cores)
        yield peer
