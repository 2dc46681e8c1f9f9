"""What stands behind the proxies: an nginx with fixed answers and an authorizer, and a sink for uploads.

Both run on the cores that are not the proxy's. The nginx speaks TLS too, for what is passed on to it.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.front import Front, write_certificate
from bench.processes import BenchError, Child, free_port, get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.machine import Cores

# The authorizer answers 200, not 204: nginx takes any 2xx for a yes, Envoy this one alone.
# Both nginx's, the one behind and the one measured, are alike in all that has nothing to do with their task.
_NGINX_MAIN = """\
{load}
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
{blocks}
"""

_NGINX_HTTP = """\
http {{
  access_log off;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{http}
}}
"""

_ORIGIN = """\
  sendfile on;
  tcp_nopush on;
  default_type text/plain;
  open_file_cache max=16 inactive=1h;
  server {{
    listen 127.0.0.1:{http} backlog=4096;
    listen 127.0.0.1:{tls} backlog=4096 ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    root {folder}/files;
    location = /small {{ return 200 "ok"; }}
    location = /hook/small {{ return 200 "ok"; }}
    location = /seen {{ return 200 "$http_x_forwarded_for $http_x_forwarded_host $http_x_forwarded_proto"; }}
    location = /hook/seen {{ return 200 "$http_x_user"; }}
  }}
  server {{
    listen 127.0.0.1:{auth} backlog=4096;
    location / {{ add_header X-User u1; return 200 ""; }}
  }}
"""


_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def nginx_command(folder: Path, *, http: str = "", stream: str = "") -> list[str]:
    """Writes nginx.conf into `folder` and gives the command that serves it in the foreground.

    Args:
        folder: Of this nginx alone.
        http: The inside of its http block; none where it is empty.
        stream: The inside of its stream block, likewise.
    """
    user = (
        "user root;" if os.geteuid() == 0 else ""
    )  # else the worker could not read the run's private folder
    config = folder / "nginx.conf"
    blocks = _NGINX_HTTP.format(folder=folder, http=http) if http else ""
    load = ""
    if stream:
        load = f"load_module {_STREAM_MODULE};"
        blocks += f"stream {{\n{stream}}}\n"
    text = _NGINX_MAIN.format(load=load, user=user, folder=folder, blocks=blocks)
    config.write_text(text, encoding="utf-8")
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(config)]


@dataclass(frozen=True, slots=True)
class Origin:
    """Ports on 127.0.0.1: of the fixed answers, of the same over TLS, of the authorizer, of the sink.

    Paths: `/small` and `/hook/small` (2 bytes), `/64k`, `/huge` (`huge` bytes), `/seen` (the forwarding
    headers that came), `/hook/seen` (the header that the authorizer or plugin sets).

    Attributes:
        certificate: PEM file with certificate and key, for all that speak TLS.
    """

    http: int
    tls: int
    auth: int
    sink: int
    huge: int
    certificate: Path


@contextmanager
def origin(folder: Path, cores: Cores, huge: int) -> Iterator[Origin]:
    """Runs it, with files in `folder`."""
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "64k").write_bytes(b"0123456789abcdef" * 4096)
    with (files / "huge").open("wb") as sparse:
        sparse.truncate(huge)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sink_port = int(listener.getsockname()[1])
    ports = Origin(free_port(), free_port(), free_port(), sink_port, huge, write_certificate(folder))
    children: list[Child] = []
    try:
        named = {"http": ports.http, "tls": ports.tls, "auth": ports.auth, "certificate": ports.certificate}
        command = nginx_command(folder, http=_ORIGIN.format(folder=folder, **named))
        children.append(Child("origin nginx", command, folder / "nginx.log", cores.others))
        sink = [sys.executable, str(Path(__file__).with_name("sink.py")), str(listener.fileno())]
        children.append(Child("sink", sink, folder / "sink.log", cores.others, (listener.fileno(),)))
        listener.close()
        children[0].wait(lambda: get(ports.http, "/small") == (200, b"ok"))
        if get(ports.tls, "/small", Front.TLS) != (200, b"ok"):
            raise BenchError("the origin does not answer over TLS")
        if get(ports.auth, "/") != (200, b""):
            raise BenchError("the authorizer does not answer")
        yield ports
    finally:
        listener.close()
        for child in children:
            child.stop()
