"""What both harnesses do: play prox for one plugin, over its lines and its socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Never, Self, TypedDict, Unpack, cast

from prox.sdk.verdicts import Changes, HeaderValues, Verdict
from prox.wire import (
    METHOD_CONFIGURE,
    ClientCertificate,
    ConfigureParams,
    ConnInfo,
    ConnResult,
    DecodeError,
    DisconnectInfo,
    HookType,
    MatchInfo,
    Payload,
    Push,
    PushParams,
    Request,
    RequestInfo,
    ResponsePair,
    Result,
    TraceContext,
    UpstreamResponseInfo,
    decode_result,
    encode_line,
    marshal_envelope,
    shown_to,
    understood,
)

from .errors import ConfigureError, HookError, PluginEndedError
from .frames import FrameConnection
from .inbox import Inbox, LogRecord
from .shown import CLIENT, DOMAIN, ROUTE, make_request, shown_headers

TIMEOUT = 5.0
"""Seconds that a harness waits for anything: what prox gives a hook, unless configured otherwise."""
START_TIMEOUT = 10.0
"""Seconds that a plugin has to start and answer the first `configure`, at least."""
_REASON = 0.5
"""Seconds in which the log of a call that failed has to say why."""


class RequestOptions(TypedDict, total=False):
    """The further arguments of `make_request`."""

    content_length: int | None
    query: str | None
    domain: str
    host: str | None
    proto: str
    client: str
    route_id: str
    match_domain: str
    match_glob: str
    match_path: str
    vars: Mapping[str, str] | None
    target: str
    trace: str
    tracestate: str
    certificate: ClientCertificate | None


class HarnessOptions(TypedDict, total=False):
    """The arguments of `BaseHarness`."""

    route_id: str | None
    domain: str
    path: str
    timeout: float


class BaseHarness(ABC):
    """The methods of `Harness` and of `ProcessHarness`. Those that ask hooks may be called from several threads.

    Args:
        route_id: the route that the plugin is told of when the context is entered; `None` for no `configure`
            before the test's own.
        domain: the route's domain patterns.
        path: the route's path patterns.
        timeout: seconds that each call here waits at most.
    """

    def __init__(
        self,
        *,
        route_id: str | None = ROUTE,
        domain: str = "",
        path: str = "",
        timeout: float = TIMEOUT,
    ) -> None:
        self.timeout = timeout
        self._first = (route_id, domain, path)
        self._taken = 0
        self._inbox: Inbox | None = None
        self._idle: list[FrameConnection] = []

    def __enter__(self) -> Self:
        """Start the plugin and tell it the first route.

        Raises:
            PluginTestError: it does not start, ends, or refuses the route.
            TimeoutError: it does not answer.
        """
        self._inbox = self._begin()
        route_id, domain, path = self._first
        if route_id is not None:
            try:
                self._configure(route_id, domain, path, max(self.timeout, START_TIMEOUT))
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the plugin; a test that has failed already is not told how that went."""
        try:
            self.stop()
        except Exception:
            if error is None:
                raise

    # Hooks

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: HeaderValues | None = None,
        body: bytes = b"",
        **options: Unpack[RequestOptions],
    ) -> Verdict:
        """Ask on_request about a request; the arguments are those of `make_request`.

        Raises:
            HookError: there is no valid answer.
            TimeoutError: none in time.
            PluginEndedError: the plugin has ended.
        """
        info = make_request(method, path, headers=headers, body=body, **options)
        return cast("Verdict", self._call(HookType.ON_REQUEST, info))

    def response(
        self,
        status: int = 200,
        headers: HeaderValues | None = None,
        *,
        request: RequestInfo | None = None,
    ) -> Changes:
        """Ask on_response about an answer to `request`, a GET of `/` unless given; raises as `request` does."""
        shown, all_values = shown_headers(headers)
        answer = UpstreamResponseInfo(status=status, headers=shown, all_values=all_values)
        pair = ResponsePair(request=request or make_request(), response=answer)
        return cast("Changes", self._call(HookType.ON_RESPONSE, pair))

    def connect(
        self,
        domain: str = DOMAIN,
        *,
        client: str = CLIENT,
        route_id: str = ROUTE,
        match_domain: str = "",
        match_glob: str = "",
    ) -> bool:
        """Ask on_connect whether a connection to this name (SNI) may pass; raises as `request` does."""
        info = ConnInfo(
            route_id=route_id,
            domain=domain,
            remote_addr=client,
            match_domain=match_domain,
            match_glob=match_glob,
        )
        return cast("ConnResult", self._call(HookType.ON_CONNECT, info)).allow

    def disconnect(
        self,
        *,
        client: str = CLIENT,
        received: int = 0,
        sent: int = 0,
        duration: float = 0,
        route_id: str = ROUTE,
        target: str = "",
        trace: str = "",
    ) -> None:
        """Tell on_disconnect of an end: body bytes in each direction, seconds, and `traceparent`.

        Nothing answers it. When this returns, a handler that is a plain function has run, and one that is a
        coroutine function has begun; all have run when the context is left.

        Raises:
            HookError: the plugin serves no on_disconnect.
            TimeoutError: it does not read.
            PluginEndedError: the plugin has ended.
        """
        info = DisconnectInfo(
            route_id=route_id,
            target=target,
            remote_addr=client,
            bytes_received=received,
            bytes_sent=sent,
            duration_ms=round(duration * 1000),
            trace=TraceContext(traceparent=trace) if trace else None,
        )
        connection = self._connect(HookType.ON_DISCONNECT)
        try:
            shown = shown_to(info, self.features)
            connection.send(marshal_envelope(HookType.ON_DISCONNECT, shown))
            connection.end()
            connection.rest()
        except TimeoutError:
            raise TimeoutError(f"on_disconnect was not read within {self.timeout:g} s") from None
        finally:
            connection.close()

    # Lines

    def configure(self, route_id: str = ROUTE, *, domain: str = "", path: str = "") -> None:
        """Tell the plugin of a route that it is bound to, as prox does at the start and after each reload.

        Raises:
            ConfigureError: it refuses the route; the text is its own.
            TimeoutError: it does not answer.
            PluginEndedError: it has ended.
        """
        self._configure(route_id, domain, path, self.timeout)

    @property
    def hooks(self) -> frozenset[str]:
        """Names of the hooks that the plugin serves; waits for its `ready`.

        Raises:
            TimeoutError: it does not say `ready`, as a plugin without hooks.
            PluginEndedError: it has ended.
        """
        return frozenset(self._ready().hooks or ())

    @property
    def features(self) -> frozenset[str]:
        """Names of the features that the plugin knows; waits and raises as `hooks` does."""
        return frozenset(self._ready().features or ())

    @property
    def pushes(self) -> list[Push]:
        """What the plugin has pushed up to now, taken by `push` or not: `set_targets` and `set_speed`."""
        return list(self._lines.pushes)

    def push(self) -> Push:
        """The next push that was not taken yet; waits for it.

        What it holds is in its `params`: `params.route_id`, `params.targets` and so on.

        Raises:
            TimeoutError: none came.
            PluginEndedError: the plugin has ended.
        """
        at, pushes = self._taken, self._lines.pushes
        if not self._lines.until(lambda: len(pushes) > at, self.timeout):
            self._complain("no push")
        self._taken += 1
        return pushes[at]

    @property
    def logs(self) -> list[LogRecord]:
        """What the plugin has logged up to now."""
        return list(self._lines.logs)

    def log(self, text: str) -> LogRecord:
        """The first record whose message holds the text; waits for it.

        Raises:
            TimeoutError: none came.
            PluginEndedError: the plugin has ended.
        """
        found = self._find_log(text, 0, self.timeout)
        if found is None:
            self._complain(f"no log record with {text!r}")
        return found

    @property
    def warnings(self) -> list[str]:
        """What prox would warn about: lines on stdout that are none of the protocol."""
        return list(self._lines.warnings)

    # The end

    def stop(self) -> None:
        """End the plugin as prox does: close its stdin and wait. Leaving the context does it too.

        Raises:
            PluginTestError: it does not end in time, or fails at it.
        """
        while self._idle:
            self._idle.pop().close()
        if self._inbox is not None:
            self._end()

    @abstractmethod
    def _begin(self) -> Inbox:
        """Start the plugin; its output."""

    @abstractmethod
    def _send(self, line: bytes) -> None:
        """Write to its stdin."""

    @abstractmethod
    def _end(self) -> None:
        """Close its stdin and wait for its end; nothing, when that was done."""

    @abstractmethod
    def _why_ended(self) -> str:
        """What is known of its end."""

    def _cause(self, message: str) -> BaseException | None:  # noqa: ARG002 - a subclass knows more
        """The exception that the plugin's log told of as `message`, where it is at hand."""
        return None

    # Inside

    def _configure(self, route_id: str, domain: str, path: str, timeout: float) -> None:
        match = MatchInfo(domain, path) if domain or path else None
        self._send(encode_line(Request(METHOD_CONFIGURE, ConfigureParams(route_id, match))))
        answers = self._lines.answers
        if not self._lines.until(lambda: len(answers), timeout):
            self._complain("no answer to configure", timeout)
        answer = answers.popleft()
        if answer.error:
            raise ConfigureError(answer.error) from self._cause("on_configure failed")

    @property
    def _lines(self) -> Inbox:
        if self._inbox is None:
            raise RuntimeError("a harness is used inside of `with`")
        return self._inbox

    def _ready(self) -> PushParams:
        inbox = self._lines
        ready = inbox.until(lambda: inbox.ready, self.timeout)
        if ready is None:
            self._complain("no `ready`")
        return ready

    def _complain(self, missing: str, timeout: float | None = None) -> Never:
        if self._lines.ended:
            raise PluginEndedError(f"{missing}: the plugin has ended{self._why_ended()}")
        raise TimeoutError(f"{missing} within {timeout or self.timeout:g} s")

    def _find_log(self, text: str, since: int, timeout: float) -> LogRecord | None:
        logs = self._lines.logs

        def find() -> LogRecord | None:
            return next((record for record in logs[since:] if text in record.message), None)

        return self._lines.until(find, timeout)

    def _connect(self, hook: HookType) -> FrameConnection:
        """A new connection, for a hook that is served."""
        ready = self._ready()
        if hook.hook_name not in (ready.hooks or ()):
            raise HookError(
                f"the plugin serves {', '.join(ready.hooks or ['nothing'])}, not {hook.hook_name}"
            )
        try:
            return FrameConnection(ready.socket, self.timeout)
        except OSError as error:
            raise HookError(f"can't connect to {ready.socket}: {error}") from error

    def _call(self, hook: HookType, payload: Payload) -> Result:
        features = self.features
        frame = marshal_envelope(hook, shown_to(payload, features))
        before = len(self._lines.logs)
        served = hook.hook_name in (self._ready().hooks or ())
        connection = self._idle.pop() if served and self._idle else self._connect(hook)
        try:
            connection.send(frame)
            result = decode_result(hook, connection.answer(), features)
        except BaseException as error:
            connection.close()
            match error:
                case TimeoutError():
                    raise TimeoutError(f"no answer to {hook.hook_name} within {self.timeout:g} s") from None
                case DecodeError():
                    raise HookError(f"the answer of {hook.hook_name} is none: {error}") from error
                case OSError() | EOFError():
                    self._failed(hook, error, before)
            raise
        self._idle.append(connection)
        return result if isinstance(result, ConnResult) else understood(result, features)

    def _failed(self, hook: HookType, error: Exception, before: int) -> Never:
        """Raise what the plugin's log says about a call that has no answer."""
        message = f"{hook.hook_name} failed"
        record = self._find_log(message, before, _REASON)
        if record is None and self._lines.ended:
            self._complain(message)
        fields = record.fields if record else {}
        said = fields.get("traceback") or fields.get("error") or str(error)
        raise HookError(f"{message}: {said}".rstrip()) from self._cause(message) or error
