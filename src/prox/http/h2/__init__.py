"""A client's HTTP/2 connection (RFC 9113): each stream an exchange, so that what follows does not notice the protocol."""
