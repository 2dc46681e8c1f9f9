"""What a service allows its clients: the part of its `config` that requests are held to.

Plain attributes, since they are read several times a request: those of a pydantic model cost three times as much.
"""

from __future__ import annotations

from prox.config.model import Tuning


class Limits:
    """Deadlines in seconds (None is off) and sizes in bytes, by their names in `config`."""

    __slots__ = (
        "h2_ping_timeout",
        "h2_read_idle_timeout",
        "h2c",
        "idle_timeout",
        "max_body_bytes",
        "max_header_bytes",
        "max_header_count",
        "max_pipelined",
        "max_requests_per_connection",
        "max_target_bytes",
        "min_body_rate",
        "read_header_timeout",
        "read_timeout",
        "write_timeout",
    )

    def __init__(self, tuning: Tuning) -> None:
        self.h2c: bool = tuning.h2c
        self.h2_ping_timeout: float | None = tuning.h2_ping_timeout
        self.h2_read_idle_timeout: float | None = tuning.h2_read_idle_timeout
        self.idle_timeout: float | None = tuning.idle_timeout
        self.max_body_bytes: int = tuning.max_body_bytes
        self.max_header_bytes: int = tuning.max_header_bytes
        self.max_header_count: int = tuning.max_header_count
        self.max_pipelined: int = tuning.max_pipelined
        self.max_requests_per_connection: int = tuning.max_requests_per_connection
        self.max_target_bytes: int = tuning.max_target_bytes
        self.min_body_rate: int = tuning.min_body_rate
        self.read_header_timeout: float | None = tuning.read_header_timeout
        self.read_timeout: float | None = tuning.read_timeout
        self.write_timeout: float | None = tuning.write_timeout
