#!/usr/bin/env python3
"""What the example proxies to: a web server on each port given, which answers with what it received.

It ends when its standard input does.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream(BaseHTTPRequestHandler):
    """Answers every GET with its own request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Show the request."""
        lines = [
            f"I am the upstream on port {self.connection.getsockname()[1]}, and I got:",
            self.requestline,
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        body = "".join(f"{line}\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in http.server
        """Say nothing: prox has an access log."""


for port in sys.argv[1:]:
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
