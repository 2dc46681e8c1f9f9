"""Under which id a plugin knows each route while a reload changes ids. No process: lines are only counted."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from prox.plugin.life import Assignment, Life
from prox.plugin.process import Process


class Pipe:
    """Takes lines as a process does; those above `room` wait and can be taken back."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.room = 100

    def send(self, line: bytes) -> None:
        self.sent.append(line.decode().split('"route_id":"')[1].split('"')[0])

    def take_back(self) -> int:
        taken = self.sent[self.room :]
        del self.sent[self.room :]
        return len(taken)


def told(*keys: str) -> dict[str, Assignment]:
    return {f"w:{number}": Assignment(key, None) for number, key in enumerate(keys)}


def begin(*keys: str) -> tuple[Life, Pipe]:
    pipe = Pipe()
    life = Life(cast("Process", pipe))
    life.configure(told(*keys))
    for _ in keys:
        life.acknowledged("")
    pipe.sent.clear()
    return life, pipe


def test_lines_before_the_acknowledgement_are_read_under_the_old_numbering() -> None:
    life, _ = begin("a", "b")
    life.configure(told("x", "a", "b"))
    assert [life.key_of(f"w:{n}") for n in range(3)] == ["a", "b", None]
    assert life.acknowledged("") == ("w:0", "x")
    assert [life.key_of(f"w:{n}") for n in range(3)] == ["x", "b", None]
    life.acknowledged("")
    life.acknowledged("")
    assert [life.key_of(f"w:{n}") for n in range(3)] == ["x", "a", "b"]
    assert life.acknowledged("") is None


def test_no_route_is_asked_about_under_an_id_that_is_to_mean_another() -> None:
    life, _ = begin("a", "b")
    assert life.id_of("a", "w:0") == "w:0"
    assert life.id_of("b", "w:7") == "w:1"
    life.configure(told("x", "a"))
    assert life.id_of("a", "w:0") is None
    life.acknowledged("")
    assert life.id_of("a", "w:0") is None
    life.acknowledged("")
    assert life.id_of("a", "w:0") == "w:1"
    assert life.id_of("b", "w:1") is None  # it is gone


def test_an_old_id_that_is_to_mean_another_route_is_not_used_though_the_route_has_a_new_one() -> None:
    life, _ = begin("c", "y", "b", "a")
    life.hooks = frozenset({"on_request"})
    life.configure(told("a", "b", "c"))
    life.acknowledged("")
    life.acknowledged("")
    assert life.key_of("w:2") == "b"  # what it says of w:2 is still read so
    assert life.id_of("b", "w:2") == "w:1"
    assert life.id_of("a", "w:3") == "w:3"  # both ids mean it
    assert life.id_of("a", "w:0") == "w:0"
    assert life.id_of("c", "w:0") is None
    life.acknowledged("")
    assert life.id_of("b", "w:2") == "w:1"
    assert life.id_of("c", "w:0") == "w:2"


def test_an_id_is_sure_when_the_last_line_that_changes_it_is_acknowledged() -> None:
    """A reload that comes before the one before it was acknowledged."""
    life, _ = begin("a")
    life.configure(told("b", "a"))
    life.configure(told("c", "b", "a"))
    assert life.id_of("a", "w:0") is None
    for known in ("b", "a"):
        life.acknowledged("")
        assert life.id_of(known, "w:0") is None
    assert life.key_of("w:0") == "b"
    assert life.id_of("a", "w:1") is None
    life.acknowledged("")
    assert life.id_of("c", "w:0") == "w:0"
    life.acknowledged("")
    assert life.id_of("b", "w:1") == "w:1"
    life.acknowledged("")
    assert life.id_of("a", "w:2") == "w:2"


def test_the_same_ids_again_interrupt_nothing() -> None:
    life, pipe = begin("a", "b")
    life.era.calls += 1
    life.configure(told("a", "b", "c"))
    assert pipe.sent == ["w:0", "w:1", "w:2"]
    assert life.id_of("a", "w:0") == "w:0"


def test_ids_change_when_calls_under_the_old_ones_have_ended() -> None:
    life, pipe = begin("a", "b")
    first = life.era
    first.calls += 2
    life.configure(told("b", "a"))
    second = life.era
    assert second is not first
    second.calls += 1  # a route that kept its id would be asked about meanwhile
    assert pipe.sent == []
    assert life.outstanding == 2
    first.leave()
    assert pipe.sent == []
    first.leave()
    assert pipe.sent == ["w:0", "w:1"]
    second.leave()
    assert life.outstanding == 2


def test_a_newer_configuration_takes_the_place_of_one_that_has_not_gone_out() -> None:
    life, pipe = begin("a", "b")
    life.era.calls += 1
    era = life.era
    life.configure(told("b", "a"))
    life.configure(told("a", "b"))
    assert life.outstanding == 2
    era.leave()
    assert pipe.sent == ["w:0", "w:1"]
    pipe.room = 1  # of these only one has gone out
    life.configure(told("a"))
    assert pipe.sent == ["w:0", "w:0"]
    assert life.outstanding == 2
    assert life.acknowledged("") == ("w:0", "a")
    assert life.acknowledged("") == ("w:0", "a")


def test_a_refusal_holds_until_a_later_configure_succeeds() -> None:
    life, _ = begin("a", "b")
    life.configure(told("a", "b"))
    life.acknowledged("no")
    life.acknowledged("")
    assert life.refused == {"a": "no"}
    life.configure(told("b", "a"))
    life.acknowledged("")
    assert life.refused == {"a": "no"}
    life.acknowledged("")
    assert life.refused == {}


def test_what_is_not_in_force_is_forgotten() -> None:
    life, _ = begin("a", "b", "c")
    life.configure(told("a", "c"))
    life.acknowledged("")
    life.acknowledged("")
    life.forget_others(told("a", "c"))
    assert life.key_of("w:2") is None
    assert life.id_of("c", "w:2") == "w:1"
    assert life.id_of("b", "w:1") is None


async def test_a_call_waits_for_the_new_id_within_its_deadline() -> None:
    life, _ = begin("a", "b")
    loop = asyncio.get_running_loop()
    await asyncio.wait_for(life.moved("unknown", loop.time() + 60), 1)
    life.configure(told("b", "a"))
    waiting = loop.create_task(life.moved("a", loop.time() + 60))
    short = loop.create_task(life.moved("a", loop.time() + 0.02))
    await asyncio.wait_for(short, 1)
    assert not waiting.done()
    life.acknowledged("")
    await asyncio.sleep(0)
    assert not waiting.done()
    life.acknowledged("")
    await asyncio.wait_for(waiting, 1)
    assert life.id_of("a", "w:0") == "w:1"


@pytest.mark.parametrize("ends", [True, False])
async def test_a_wait_ends_with_the_process(ends: bool) -> None:
    life, _ = begin("a", "b")
    life.configure(told("b", "a"))
    waiting = asyncio.get_running_loop().create_task(life.moved("a", asyncio.get_running_loop().time() + 0.5))
    await asyncio.sleep(0)
    if ends:
        life.end()
        await asyncio.wait_for(waiting, 0.2)
        assert life.id_of("a", "w:0") is None
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
