"""Pure HTTP: bytes in, messages out, bytes out. No socket, no clock, no event loop."""
