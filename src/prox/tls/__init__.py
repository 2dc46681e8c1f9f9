"""TLS: contexts for listeners and for upstreams."""
