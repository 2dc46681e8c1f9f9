"""Checks of what the plugin reads on stdin."""

from __future__ import annotations

import json

from .model import CheckFailedError, Group
from .samples import ROUTE
from .subject import Subject, configure_line

group = Group("lines", needs="lines.configure-acknowledged")


@group.check("configure-acknowledged", "answers-to-configure", needs="")
def configure_acknowledged(subject: Subject) -> None:
    """The first configure is answered with ok."""
    with subject.fresh(route_id=None) as plugin:
        subject.configure(plugin)
        answers = plugin.inbox.answers
        if answers[0].error:
            raise CheckFailedError(
                f"the plugin refuses the route {ROUTE}: {answers[0].error}\n"
                "Give it what it needs by --arg and --env, so that it can be checked."
            )


@group.check("one-answer-each", "answers-to-configure")
def one_answer_each(subject: Subject) -> None:
    """Ten configures in one write get ten answers."""
    plugin = subject.plugin
    answers = plugin.inbox.answers
    before = len(answers)
    plugin.send(b"".join(configure_line(f"check:{number}") for number in range(10)))
    plugin.until(lambda: len(answers) >= before + 10, subject.patience.answer)
    plugin.until(lambda: None, subject.patience.quiet)
    if plugin.running and len(answers) != before + 10:
        raise CheckFailedError(f"they got {len(answers) - before} answers")


@group.check("split", "lines-from-prox")
def split(subject: Subject) -> None:
    """A line that arrives byte by byte is one line."""
    subject.configure(subject.plugin, bytewise=True)


@group.check("configure-repeated", "lines-from-prox")
def configure_repeated(subject: Subject) -> None:
    """The same route again, as after a reload, is answered as it was before."""
    plugin = subject.plugin
    answers = plugin.inbox.answers
    for _ in range(3):
        subject.configure(plugin)
        if answers[-1].error:
            raise CheckFailedError(f"it is refused: {answers[-1].error}")


@group.check("no-match", "lines-from-prox")
def no_match(subject: Subject) -> None:
    """A configure without match, of a route without patterns, is answered."""
    subject.configure(subject.plugin, configure_line(path=""))


@group.check("part-of-match", "lines-from-prox")
def part_of_match(subject: Subject) -> None:
    """A configure with a domain and no path is answered."""
    subject.configure(subject.plugin, configure_line(domain="*.example.com", path=""))


@group.check("empty-route", "lines-from-prox")
def empty_route(subject: Subject) -> None:
    """A configure with an empty route_id, as autostart sends, is answered, be it with an error."""
    with subject.fresh(route_id=None, keep=False) as plugin:
        subject.configure(plugin, configure_line("", path=""))


@group.check("key-order", "lines-from-prox")
def key_order(subject: Subject) -> None:
    """Spaces and another order of keys mean the same."""
    line = json.dumps(
        {"params": {"match": {"path": "/*"}, "route_id": ROUTE}, "method": "configure"}, indent=1
    )
    subject.configure(subject.plugin, b"  " + line.replace("\n", " ").encode() + b" \r\n")


@group.check("escapes", "lines-from-prox")
def escapes(subject: Subject) -> None:
    """Text beyond ASCII is read, escaped or not."""
    params = {"route_id": ROUTE, "match": {"path": '/\u00e4\U0001f600\t"\\/*'}}
    for ascii_only in (False, True):
        line = json.dumps({"method": "configure", "params": params}, ensure_ascii=ascii_only)
        subject.configure(subject.plugin, line.replace('"configure"', r'"c\u006fnfigure"').encode() + b"\n")


@group.check("long", "lines-from-prox")
def long(subject: Subject) -> None:
    """A line of 200 KB is read."""
    paths = ",".join(f"/path/number/{number}/*" for number in range(9000))
    subject.configure(subject.plugin, configure_line(path=paths))


@group.check("unknown-keys", "lines-from-prox")
def unknown_keys(subject: Subject) -> None:
    """Keys that are not known are ignored."""
    params = {"route_id": ROUTE, "match": {"path": "/*", "later": [1]}, "later": {"a": None}}
    line = {"method": "configure", "params": params, "id": 1}
    answers = subject.plugin.inbox.answers
    subject.configure(subject.plugin, json.dumps(line).encode() + b"\n")
    if answers[-1].error:
        raise CheckFailedError(f"the plugin refuses the route: {answers[-1].error}")


@group.check("unknown-methods", "lines-from-prox")
def unknown_methods(subject: Subject) -> None:
    """Lines with a method that is not known are ignored, and not answered."""
    plugin = subject.plugin
    answers = plugin.inbox.answers
    before = len(answers)
    for line in (
        {"method": "later"},
        {"method": "later", "params": {"x": 1}},
        {"method": "later", "params": [1]},
    ):
        plugin.send(json.dumps(line).encode() + b"\n")
    if plugin.until(lambda: len(answers) > before, subject.patience.quiet):
        raise CheckFailedError("such a line is answered: prox takes that for the answer to a configure")
    subject.configure(plugin)
