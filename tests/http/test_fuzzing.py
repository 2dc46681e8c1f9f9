"""Whatever bytes come through real sockets, what goes upstream parses strictly, what comes back does, and prox serves on.

The invariants themselves are judged in test_invariants, a thousand times faster; here are the kernel and uvloop.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import get
from support.lasting import Lasting
from support.mutations import ANSWERS, REQUESTS, Change, changed, changes
from support.upstream import OK, UpstreamPeer
from support.upstream_messages import NotStrictError, read_message

TUNING = {"read_header_timeout": "30ms", "read_timeout": "30ms", "response_header_timeout": "30ms"}


class Fuzzed(Lasting):
    """Its upstream sends `reply`, and remembers what was not strict."""

    def __init__(self) -> None:
        self.reply = OK
        self._unclean: list[str] = []
        super().__init__(self._script, TUNING)

    async def _script(self, peer: UpstreamPeer) -> None:
        try:
            while await peer.request() is not None:
                await peer.send(self.reply)
                if self.reply is not OK:
                    peer.close()
                    return
        except NotStrictError as error:
            if "trailers" not in str(error):  # this reader knows none
                self._unclean.append(f"{error}: {peer.received!r}")

    async def check(self) -> None:
        """It serves on, and the upstream got nothing that is not strict."""
        assert self._unclean == []
        self.reply = OK
        async with await self.prox.connect() as client:
            assert (await client.request(get())).status == 200


@pytest.fixture(name="fuzzed", scope="module")
def _fuzzed() -> Iterator[Fuzzed]:
    fuzzed = Fuzzed()
    yield fuzzed
    fuzzed.stop()


common = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@common
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3), changes)
def test_broken_requests(fuzzed: Fuzzed, requests: list[bytes], edits: list[Change]) -> None:
    last = get("/last", "Connection: close")
    fuzzed.reply = OK
    fuzzed.run(fuzzed.until_quiet(changed(b"".join(requests), edits) + last))
    fuzzed.run(fuzzed.check())


@common
@given(st.sampled_from(ANSWERS), changes)
def test_broken_answers(fuzzed: Fuzzed, reply: bytes, edits: list[Change]) -> None:
    fuzzed.reply = bytes(bytearray(changed(reply, edits)))  # another object than OK
    rest = fuzzed.run(fuzzed.until_quiet(get("/", "Connection: close")))
    # What is left is a beginning of an answer that was cut, never bytes that a strict reader refuses.
    read_message(rest, request=False)
    fuzzed.run(fuzzed.check())
