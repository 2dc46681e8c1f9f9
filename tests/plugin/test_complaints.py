"""Warnings about a plugin: fields, and the limit of their number."""

from __future__ import annotations

import pytest

from prox.observe.event import Event
from prox.plugin.complaints import Complaints
from support.plugin_host import until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_warning_has_the_plugin_as_a_field(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints("loud")
    complaints.warn("100 %")
    complaints.warn("header %s is left out", "X-A")
    complaints.tell("kind", "hook failed: late", {"route": "web:0", "kind": "deadline"})
    events = [record.msg for record in caplog.records if isinstance(record.msg, Event)]
    assert [(event.text, event.values) for event in events] == [
        ("100 %", {"plugin": "loud"}),
        ("header X-A is left out", {"plugin": "loud"}),
        ("hook failed: late", {"plugin": "loud", "route": "web:0", "kind": "deadline"}),
    ]
    assert caplog.messages[2] == "hook failed: late plugin=loud route=web:0 kind=deadline"


def test_those_above_the_limit_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints("loud", clock=clock)
    for number in range(1000):
        complaints.warn("warning %d", number)
    complaints.warn("another kind")
    assert len(caplog.records) == 11
    clock.now += 9.9
    complaints.warn("warning %d", 1000)
    assert len(caplog.records) == 11
    clock.now += 0.2
    complaints.warn("warning %d", 1001)
    assert caplog.messages[11:] == [
        "warning 1000, and 990 more like this in the last 10 s plugin=loud",
        "warning 1001 plugin=loud",
    ]


def test_one_left_out_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints("loud", clock=clock)
    for number in range(11):
        complaints.warn("warning %d", number)
    clock.now += 10
    complaints.warn("warning %d", 11)
    assert caplog.messages[9:] == [f"warning {number} plugin=loud" for number in (9, 10, 11)]


async def test_the_number_is_told_though_nothing_follows(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints("loud", window=0.05)
    for number in range(20):
        complaints.tell("kind", f"warning {number}", {"route": "web:0"})
    await until(lambda: len(caplog.records) == 11)
    assert caplog.messages[10] == (
        "warning 19, and 9 more like this in the last 0.05 s plugin=loud route=web:0"
    )
