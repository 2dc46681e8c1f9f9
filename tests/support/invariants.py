"""What holds whatever a client and an upstream send: the four invariants of the security page, judged from outside.

The judge has what both peers sent and what prox sent to each, and reads all of it by `strict_parser`: it shares no line with
prox.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from support.strict_parser import Answer, FaultError, Fields, Message, Reading
from support.wires import Asked, Reply, Transport, Wires, running

_FRAMING = {b"content-length", b"transfer-encoding"}
_FORWARDED = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
_HOP_BY_HOP = _FRAMING | {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
}
_SET_BY_PROX = (
    _FRAMING
    | _FORWARDED
    | {b"connection", b"expect", b"host", b"max-forwards", b"te", b"trailer", b"upgrade"}
)
_NEVER_UNDERSCORED = _HOP_BY_HOP | _FORWARDED
_PASSED_UPGRADE = re.compile(
    rb"(?!(?i:h2|h3|http|tls)(?:[^A-Za-z]|$))(?!(?i:h2c))[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?"
)
_KEPT = {b"date", b"forwarded", b"host", b"max-forwards"} | _FRAMING | _FORWARDED


def converse(
    wires: Wires,
    sent: bytes,
    cuts: tuple[int, ...] = (),
    replies: tuple[Reply, ...] = (),
    *,
    leaves: bool = False,
) -> None:
    """Hold a conversation, see `Wires.converse`, and judge it.

    Raises:
        AssertionError: an invariant does not hold.
    """
    with running(wires.loop):
        try:
            wires.converse(sent, cuts, replies, leaves=leaves)
        except FaultError as error:
            raise AssertionError(f"not strict, went upstream: {error}") from error
        assert wires.client is not None
        if leaves:
            _Judge(sent, wires.client, wires.asked).judge_upstream()
        else:
            _Judge(sent, wires.client, wires.asked).judge()
        _judge_reuse(wires)
        wires.finish()
        assert not wires.entry.connections, "a client's connection is left"
        assert not wires.pools.open, "an upstream connection is left"


def _judge_reuse(wires: Wires) -> None:
    for upstream in wires.upstreams:
        for asked in upstream.asked[:-1]:
            why = _unfit_for_reuse(asked)
            assert not why, f"an upstream connection was used again: {why}: {asked}"


def _unfit_for_reuse(asked: Asked) -> str:
    if asked.reply is None or not asked.message.whole:
        return "the request was not over"
    answer = Answer.of(asked.reply.data, asked.message.method)
    message = answer.message
    reasons = {
        "it was answered early": asked.early,
        "the answer was none": message is None or bool(answer.fault),
        "the answer was not whole": message is not None and not message.whole,
        "the answer was the last": message is not None and _is_last(message),
        "there were surplus bytes": bool(answer.surplus),
    }
    return ", ".join(why for why, holds in reasons.items() if holds)


def _is_last(message: Message) -> bool:
    return b"close" in message.options or (message.first[0] == b"0" and b"keep-alive" not in message.options)


class _Judge:
    """Walks along the client's requests, with what came of each."""

    def __init__(self, sent: bytes, client: Transport, asked: list[Asked]) -> None:
        self._reading = Reading.of_requests(sent)
        self._client = client
        self._out = client.sent
        self._asked = list(asked)

    def judge(self) -> None:
        over = False
        for request in self._reading.messages:
            over = self._served(request)
            if over:
                break
        if not over:
            self._rest()
        assert not self._out, f"answers that nobody asked for: {self._out!r}"
        assert not self._asked, f"requests that nobody sent: {self._asked}"

    def judge_upstream(self) -> None:
        """Judge what went upstream for a client that has gone: requests that it sent, in order, and perhaps not all."""
        begun = self._reading.begun
        for request in [*self._reading.messages, *([] if begun is None else [begun])]:
            self._take(request)
        assert not self._asked, f"requests that nobody sent: {self._asked}"

    def _served(self, request: Message) -> bool:
        """Judge what came of a whole request; whether the connection ended with it."""
        asked = self._take(request)
        if asked is None:
            assert request.unusual, f"{request} was not forwarded; {self._out!r}"
            answer = self._answer(request.method)
            self._check_own(answer, request)
            return self._client.finished and not self._out
        return self._check_passed(request, asked)

    def _rest(self) -> None:
        """Judge what came of the bytes behind the last whole request."""
        begun, fault = self._reading.begun, self._reading.fault
        asked = None if begun is None else self._take(begun)
        if asked is not None:
            assert not asked.message.whole, f"a whole request was made of {begun}"
            if asked.reply is not None:
                assert begun is not None
                self._check_passed(begun, asked)
                return
        if not fault and not self._out:
            return  # it waits for more, or was cut off
        first_line = self._reading.rest.lstrip(b"\r\n").split(b"\n")[0].rstrip(b"\r")
        answer = self._answer(first_line.split(b" ")[0])
        self._check_own(answer, begun)
        assert answer.message is not None
        assert answer.message.status >= 400, f"{fault} was answered {answer.message}"
        assert self._client.finished, f"a malformed request left the connection open: {fault}"

    def _take(self, request: Message) -> Asked | None:
        """The request as the upstream got it; with a second try where the first met a connection that had gone stale."""
        if not self._asked or not _is_same_request(request, self._asked[0].message):
            return None
        asked = self._asked.pop(0)
        while (
            self._asked
            and not asked.first
            and (asked.reply is None or (asked.reply.ends and not asked.reply.data))
            and request.method in {b"GET", b"HEAD"}
            and _is_same_request(request, self._asked[0].message)
        ):
            asked = self._asked.pop(0)
        return asked

    def _answer(self, method: bytes) -> Answer:
        answer = Answer.of(self._out, method, canonical=True)
        assert not answer.fault, f"the client got what is not strict: {answer.fault} in {self._out!r}"
        size = len(self._out) - len(answer.surplus)
        self._out = self._out[size:]
        message = answer.message
        if message is not None and message.until_close:
            message.whole = self._client.finished and not self._client.aborted
        return answer

    def _check_own(self, answer: Answer, request: Message | None) -> None:
        message = answer.message
        assert message is not None, f"no answer to {request}"
        assert message.whole, f"an answer of prox itself is cut: {message}"
        assert message.status >= 400 or (request is not None and request.unusual), message

    def _check_passed(self, request: Message, asked: Asked) -> bool:
        """Judge the answer to a request that was forwarded; whether the connection ended with it."""
        answer = self._answer(request.method)
        got = answer.message
        reply = asked.reply or Reply(b"", ends=True)  # it closed before it was asked wholly
        said = Answer.of(reply.data, request.method)
        final = said.message
        if final is not None and final.until_close:
            final.whole = reply.ends
        if not request.whole and got is not None and got.status in {400, 408, 431}:
            self._check_own(answer, request)
        elif final is None or said.fault:
            assert got is not None, f"no answer to {request} though the upstream gave none"
            assert got.whole, got
            assert got.status in {502, 504}, f"{got.status} for {reply.data!r}"
        elif final.whole and not final.broken:
            assert got is not None, f"no answer to {request}"
            if not (final.unusual and got.status == 502) and not (
                len(said.interim) > 30 and got.status == 502
            ):
                _check_same_answer(request, final, got, whole=True)
                if request.first[2] == b"1":
                    assert _without_100(answer.interim) == _without_100(said.interim), (
                        "interim answers differ"
                    )
        else:
            assert got is not None, f"no trace of an answer to {request}"
            if got.status not in {502, 504}:
                assert not got.whole, f"a cut answer passes for whole: {reply.data!r} became {got}"
                assert self._client.closed, "a cut answer's connection stays open"
                _check_same_answer(request, final, got, whole=False)
        ended = self._client.finished and not self._out
        if ended and got.whole and request.whole:
            assert b"close" in got.options, f"closed without a word behind {got}"
            fine = got.status == 502 or asked.early or request.is_last_of_client or got.until_close
            assert fine or request.unusual, f"closed for no reason behind {request}"
        return ended


def _without_100(statuses: list[int]) -> list[int]:
    return [status for status in statuses if status != 100]


def _has_dot_segments(target: bytes) -> bool:
    path = unquote_to_bytes(target.partition(b"?")[0]).replace(b"\\", b"/")
    return not {b".", b".."}.isdisjoint(path.split(b"/"))


def _is_same_request(sent: Message, got: Message) -> bool:
    target = sent.target
    if target[:1] != b"/" and b"://" in target:
        path = target.partition(b"://")[2]
        place = min((at for at in (path.find(b"/"), path.find(b"?")) if at >= 0), default=-1)
        target = b"/" if place < 0 else path[place:]
        if target[:1] == b"?":
            target = b"/" + target
        if place < 0 and sent.method == b"OPTIONS":
            target = b"*"
    body_fits = got.body == sent.body if got.whole else sent.body.startswith(got.body)
    if (got.method, got.target) != (sent.method, target) or not body_fits or (got.whole and not sent.whole):
        return False
    for name, _ in got.fields:
        assert b"_" not in name or _folded(name) not in _NEVER_UNDERSCORED, f"{name!r} went upstream"
    assert not _has_dot_segments(got.target), f"{got.target!r} went upstream"
    _check_upgrade(sent, got)
    forwarded = _end_to_end(got.fields, _SET_BY_PROX)
    return forwarded == _end_to_end(sent.fields, _gone(sent) | _SET_BY_PROX)


def _check_upgrade(sent: Message, got: Message) -> None:
    """What of the client's Upgrade may go on, and nothing else: no other HTTP, no TLS; none beside a body."""
    asked = [token.strip(b" \t") for value in sent.all(b"upgrade") for token in value.split(b",")]
    framed = any(value != b"0" for value in sent.all(b"content-length")) or sent.all(b"transfer-encoding")
    if sent.first[2] != b"1" or b"upgrade" not in sent.options or framed:
        asked = []
    passed = [token for value in got.all(b"upgrade") for token in value.split(b", ")]
    assert passed == [token for token in asked if _PASSED_UPGRADE.fullmatch(token)], (
        f"{asked} became {passed}"
    )
    assert (b"upgrade" in got.options) == bool(passed), f"Connection does not fit: {got.fields}"


def _check_same_answer(request: Message, said: Message, got: Message, *, whole: bool) -> None:
    assert got.status == said.status, f"{said} became {got}"
    fields = _end_to_end(said.fields, _gone(said) | {b"date"})
    assert _end_to_end(got.fields, _HOP_BY_HOP | {b"date"}) == fields, f"{said.fields} became {got.fields}"
    if whole:
        assert got.whole, f"{said} was cut: {got}"
        assert got.body == said.body, f"{said.body!r} became {got.body!r}"
    else:
        assert said.body.startswith(got.body), f"{said.body!r} became {got.body!r}"
    assert not got.trailers or request.all(b"te"), f"trailers that were not asked for: {got.trailers}"


def _gone(message: Message) -> set[bytes]:
    """The folded names of the fields that go no further than the next recipient."""
    named = {_folded(option) for option in message.options} - _KEPT - {b"close"}
    return _HOP_BY_HOP | {name for name in named if not name.startswith(b"x-forwarded-")}


def _end_to_end(fields: Fields, gone: set[bytes]) -> Fields:
    return [(name, value) for name, value in fields if _folded(name) not in gone]


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")
