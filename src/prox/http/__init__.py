"""HTTP between sockets: codecs, connections of clients and upstreams, the exchange that joins them."""
