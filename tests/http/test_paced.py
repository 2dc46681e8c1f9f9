"""A sink that paces: everything passes, in order, and what ends early leaves nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from prox.http.paced import Paced
from prox.limits import MBPS, Pacer
from support.virtual_clock import VirtualClock


class Sink:
    """Remembers what it was told; full after `room` bytes until it is emptied."""

    def __init__(self) -> None:
        self.data = b""
        self.trailers = b""
        self.ends = 0
        self.error: Exception | None = None

    def write(self, data: bytes) -> None:
        assert data
        assert not self.ends
        self.data += data

    def end(self, data: bytes = b"") -> None:
        self.end_with_trailers(data, b"")

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        assert not self.ends
        self.data += data
        self.trailers = trailers
        self.ends += 1

    def fail(self, error: Exception) -> None:
        assert not self.ends
        self.error = error
        self.ends += 1


class Source:
    def __init__(self) -> None:
        self.paused = False
        self.stopped = False

    def pause(self) -> None:
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        assert self.paused
        self.paused = False

    def stop(self) -> None:
        self.stopped = True


class Line:
    """A source, a sink and what is between them, at 1 Mbps."""

    def __init__(self, *, impatient: bool = False) -> None:
        self.clock = VirtualClock()
        self.pacer = Pacer(self.clock, MBPS)
        self.sink, self.source = Sink(), Source()
        self.paced = Paced(self.sink, [self.pacer], impatient=impatient)
        self.paced.read_from(self.source)

    def paused(self) -> bool:
        return self.source.paused

    def ends(self) -> int:
        return self.sink.ends

    def error(self) -> Exception | None:
        return self.sink.error

    def assert_clean(self) -> None:
        assert not self.clock.pending
        assert not self.pacer.users
        assert not self.paced.held
        assert not self.paced.busy
        assert self.paced.over.done
        assert self.paced._source is None


def test_little_passes_at_once() -> None:
    line = Line()
    line.paced.write(b"x" * 500)
    assert line.sink.data == b"x" * 500
    assert not line.paused()
    assert not line.clock.pending
    line.paced.end()
    assert line.ends() == 1
    line.assert_clean()


def test_the_source_is_paused_while_much_is_held() -> None:
    line = Line()
    line.paced.write(b"x" * 2000)
    assert not line.paused()  # it may be one that brings little at a time
    line.paced.write(b"y" * 100_000)
    assert line.paused()
    line.clock.go_on(0.5)
    assert len(line.sink.data) < 70_000
    assert line.paused()
    line.clock.go_on(0.4)
    assert line.sink.data == b"x" * 2000 + b"y" * 100_000
    assert not line.paused()
    assert not line.clock.pending


def test_the_end_comes_behind_what_is_held() -> None:
    line = Line()
    line.paced.write(b"a" * 10_000)
    line.paced.end_with_trailers(b"b" * 10_000, b"\r\nX: y")
    assert line.paced.busy
    assert not line.ends()
    line.clock.go_on(1)
    assert line.sink.data == b"a" * 10_000 + b"b" * 10_000
    assert line.sink.trailers == b"\r\nX: y"
    line.assert_clean()


def test_a_full_sink_gets_nothing_and_pauses_the_source() -> None:
    line = Line()
    line.paced.write(b"x" * 20_000)
    line.clock.go_on(0.05)
    line.paced.pause()
    passed = len(line.sink.data)
    line.paced.write(b"y" * 3000)
    line.clock.go_on(1)
    assert len(line.sink.data) == passed
    line.paced.resume()
    line.clock.go_on(1)
    assert line.sink.data == b"x" * 20_000 + b"y" * 3000
    assert not line.paused()
    line.paced.pause()
    assert line.paused()
    line.paced.end()
    assert line.ends() == 1  # an end takes no room
    line.assert_clean()


def test_an_end_waits_for_a_full_sink_where_bytes_come_before_it() -> None:
    line = Line()
    line.paced.pause()
    line.paced.end(b"x" * 100)
    assert not line.ends()
    line.paced.resume()
    assert line.sink.data == b"x" * 100
    line.assert_clean()


def test_a_source_that_breaks_off() -> None:
    error = ConnectionResetError()
    patient, impatient = Line(), Line(impatient=True)
    for line in (patient, impatient):
        line.paced.write(b"x" * 20_000)
        line.paced.fail(error)
    assert impatient.error() is error
    assert len(impatient.sink.data) < 1000
    impatient.assert_clean()
    assert patient.error() is None
    patient.clock.go_on(1)
    assert patient.error() is error
    assert len(patient.sink.data) == 20_000
    patient.assert_clean()


def test_a_sink_that_wants_no_more() -> None:
    line = Line()
    line.paced.write(b"x" * 20_000)
    line.paced.stop()
    assert line.source.stopped
    line.assert_clean()
    passed = line.sink.data
    line.paced.write(b"more")
    line.paced.end(b"more")
    line.paced.fail(ConnectionResetError())
    line.clock.go_on(1)
    assert line.sink.data == passed
    assert not line.ends()
    line.assert_clean()


def test_a_source_that_has_ended_hears_nothing_more() -> None:
    """The connection behind it may serve others by then."""
    line = Line()
    line.paced.write(b"x" * 20_000)
    assert line.paused()
    line.paced.end(b"y")
    line.paced.pause()
    line.paced.resume()
    line.clock.go_on(1)
    line.paced.stop()
    assert line.paused()
    assert not line.source.stopped


def test_another_source_in_its_place() -> None:
    line = Line()
    line.paced.pause()
    other = Source()
    line.paced.read_from(other)
    assert other.paused


def test_a_sink_that_ends_everything_while_it_takes() -> None:
    line = Line()

    class Ending(Sink):
        def write(self, data: bytes) -> None:
            super().write(data)
            if len(self.data) > 3000:
                line.paced.close()

    sink = Ending()
    line.paced.sink = sink
    line.paced.write(b"x" * 20_000)
    line.clock.go_on(1)
    assert 3000 < len(sink.data) < 8000
    line.assert_clean()


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from([1, 100, 4095, 4096, 9000, 100_000])),
            st.tuples(st.sampled_from(["pause", "resume"]), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 500)),
        ),
        max_size=40,
    )
)
def test_any_order(events: list[tuple[str, int]]) -> None:
    line = Line()
    written = b""
    blocked = False
    for number, (event, value) in enumerate(events):
        if event == "write":
            data = bytes([number]) * value
            written += data
            line.paced.write(data)
        elif event == "wait":
            line.clock.go_on(value / 1000)
        else:
            blocked = event == "pause"
            getattr(line.paced, event)()
        assert line.paused() == (blocked or line.paced.held >= 4096)
        assert len(line.sink.data) + line.paced.held == len(written)
    line.paced.resume()
    line.paced.end(b"end")
    line.clock.go_on(1 + len(written) / MBPS)
    assert line.sink.data == written + b"end"
    line.assert_clean()
