"""What a listener knows of each of its connections, whatever is spoken on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Client


class ClientConnection(ABC):
    """One client's connection.

    Attributes:
        client: its peer.
    """

    __slots__ = ("client",)

    def __init__(self, client: Client) -> None:
        self.client = client

    @abstractmethod
    def drain(self) -> None:
        """Close now if idle, else after what is under way."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once, so that no client takes what it has for a whole answer."""
