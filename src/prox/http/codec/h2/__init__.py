"""Pure HTTP/2 (RFC 9113) and HPACK (RFC 7541): bytes in, events out, bytes out. No socket, no clock, no event loop."""
