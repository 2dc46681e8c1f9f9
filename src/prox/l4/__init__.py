"""Below HTTP: what a connection says before its first protocol begins, and relaying it unopened.

`hello` and `proxy_header` read bytes and are pure; `relay` moves bytes between two sockets inside the kernel.
"""
