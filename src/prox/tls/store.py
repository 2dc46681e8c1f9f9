"""The certificates of one service, and which of them a client is shown.

A client's server name (SNI) chooses: first a certificate for exactly that name, then one with `*` in place of its first
label. Who sends no name, or one that no certificate is for, is shown the default. Certificates can be put in and taken out
at any time: a handshake sees all of a change or nothing of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from .failures import ServerContext
from .pairs import Pair
from .policy import Policy

Made: TypeAlias = dict[bytes, ServerContext]
"""Contexts by the digest of their pair, all under one policy."""


class Chosen:
    """Certificates by name; made at once and never changed.

    Args:
        configured: those of the configuration.
        own: those that were put in.
        contexts: a context for each, by digest.

    Attributes:
        pairs: all of them; the first is the default.
    """

    def __init__(self, configured: Sequence[Pair], own: Iterable[Pair], contexts: Made) -> None:
        self.configured = tuple(configured)
        self.own = tuple(own)
        self.contexts = contexts
        self.pairs = pairs = self.configured + self.own
        self._default = contexts[pairs[0].digest] if pairs else None
        self._by_name: dict[str, ServerContext] = {}
        for name, pair in by_name(pairs).items():
            self._by_name[name] = contexts[pair.digest]

    def context(self, name: str | None) -> ServerContext | None:
        """The context for a server name; None where there is no certificate at all."""
        if name is None:
            return self._default
        name = name.lower().rstrip(".")
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name.get(f"*.{name.partition('.')[2]}")
        return self._default if found is None else found


def by_name(pairs: Iterable[Pair]) -> dict[str, Pair]:
    """Which pair each name is for: of several the one that is valid longest, of equals the first."""
    chosen: dict[str, Pair] = {}
    for pair in pairs:
        for name in pair.names:
            other = chosen.get(name)
            if other is None or pair.not_after > other.not_after:
                chosen[name] = pair
    return chosen


class Store:
    """The certificates that a listener shows.

    One configuration hands it on to the next as long as the policy stays, so that clients resume their sessions: the keys of
    session tickets are those of `context`, live in memory and are gone with the process.

    Args:
        policy: holds for all handshakes.
        before: the store of the configuration before, under another policy, whose own certificates this one takes over.

    Attributes:
        policy: see above.
        context: what every handshake begins with.
    """

    def __init__(self, policy: Policy, before: Store | None = None) -> None:
        self.policy = policy
        self.context = policy.context()
        self.context.sni_callback = self._choose
        self._own: dict[str, Pair] = {} if before is None else dict(before.own)
        self._challenges: dict[str, ServerContext] = {}
        self._chosen = Chosen((), (), {})
        self._chosen = self.prepare(())

    def prepare(self, pairs: Sequence[Pair]) -> Chosen:
        """Contexts for the configured `pairs`, beside those that were put in; changes nothing. Takes some time.

        Raises:
            ssl.SSLError: OpenSSL refuses one.
        """
        before = self._chosen.contexts
        own = tuple(self._own.values())
        contexts = {
            pair.digest: before.get(pair.digest) or self.policy.context(pair) for pair in (*pairs, *own)
        }
        return Chosen(pairs, own, contexts)

    def configure(self, chosen: Chosen) -> None:
        """Show what `prepare` gave, from the next handshake on."""
        if chosen.own != tuple(self._own.values()):  # changed since it was prepared
            chosen = self.prepare(chosen.configured)
        self._chosen = chosen

    def put(self, label: str, pair: Pair) -> None:
        """Show a certificate that is not configured, at once and over reloads, in place of the one put in under `label`.

        This is what automatic certificates use.

        Raises:
            ssl.SSLError: OpenSSL refuses it; nothing was changed.
        """
        before = self._own
        self._own = {**before, label: pair}
        try:
            self._chosen = self.prepare(self._chosen.configured)
        except BaseException:
            self._own = before
            raise

    def remove(self, label: str) -> None:
        """Show the certificate no more that was put in under `label`."""
        if label in self._own:
            self._own = {each: pair for each, pair in self._own.items() if each != label}
            self._chosen = self.prepare(self._chosen.configured)

    def challenge(self, name: str, pair: Pair | None) -> None:
        """Answer handshakes for `name` that ask for `acme-tls/1` with this pair (RFC 8737), None: no more.

        Only a reader of the ClientHello knows what is asked for: it looks for `challenged` and begins the handshake there.
        """
        if pair is None:
            self._challenges.pop(name, None)
        else:
            self._challenges[name] = Policy(protocols=("acme-tls/1",)).context(pair)

    def challenged(self, name: str) -> ServerContext | None:
        """The context that answers the challenge for a name, None where there is none."""
        return self._challenges.get(name)

    @property
    def own(self) -> Mapping[str, Pair]:
        """What was put in, by label."""
        return self._own

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """What is shown now; the first is the default."""
        return self._chosen.pairs

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        context = self._chosen.context(name)
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context
        return None
