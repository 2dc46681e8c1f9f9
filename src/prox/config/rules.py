"""Rules over the whole configuration, and doubts: what works, but hardly as it is meant."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

from .files import exists, is_file, is_folder
from .gosource import go_source, out_of_date
from .model import PassAction, Plugin, PluginLimits, PluginRef, ProxyAction, Route, ServeAction, Service
from .outputs import doubtful, impossible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .addresses import ListenAddress
    from .build import Builder
    from .document import Path_

Finding = tuple[str, "Path_", str]
"""What is wrong, where in the whole configuration, and a hint."""


def broken_rules(builder: Builder) -> Iterator[Finding]:
    """What makes a configuration unusable although each part is valid."""
    yield from _shared_addresses(builder)
    yield from _empty_balancers(builder)
    yield from _certificates_without_domain(builder)
    yield from impossible(builder)


def doubts(builder: Builder) -> Iterator[Finding]:
    """What deserves a warning."""
    if builder.is_empty:
        yield "there are no services, so nothing is served", (), ""
    for name in builder.services:
        if builder.is_without_routes(name):
            yield "the service has no routes, so every request is answered with 404", ("services", name), ""
    for path, plugin in _plugins(builder):
        yield from _missing_program(path, plugin)
    for name, plugin in builder.plugins.items():
        if plugin.limits is not None:
            yield from _missing_accounts(("plugins", name, "limits"), plugin.limits)
    services = dict(builder.readable_services("plugins"))
    for name, index, route in builder.readable_routes("plugins", "action"):
        yield from _headers_of_others(services.get(name), name, index, route)
    for path, action in builder.readable_actions("root", "file"):
        if isinstance(action, ServeAction):
            yield from _missing_files(path, action)
    yield from _never_matched(builder)
    yield from doubtful(builder)


def _shared_addresses(builder: Builder) -> Iterator[Finding]:
    taken: list[tuple[str, ListenAddress]] = []
    listeners: list[tuple[str, Path_, ListenAddress]] = [
        (f'the service "{name}"', ("services", name, "listen"), service.listen)
        for name, service in builder.readable_services("listen")
    ]
    admin = builder.readable_section("admin", "listen")
    if admin is not None:
        listeners.append(("the admin API", ("admin", "listen"), admin.listen))
    for who, path, address in listeners:
        for other, before in taken:
            if address.overlaps(before):
                same = "" if address == before else f' as part of "{before}"'
                yield f'"{address}" is listened on by {other} already{same}', path, ""
                break
        taken.append((who, address))


def _empty_balancers(builder: Builder) -> Iterator[Finding]:
    """A balancer without targets waits for a plugin's push, so there must be one that may push."""
    if builder.has_broken_plugins or not builder.knows_bindings:
        return
    running = [plugin for plugin in builder.plugins.values() if plugin.autostart]
    running += [plugin for _, plugin in _bound(builder)]
    if any(plugin.push_scope == "all" for plugin in running):
        return
    services = dict(builder.readable_services("plugins"))
    for name, index, route in builder.readable_routes("balancer", "plugins", "action"):
        if route.balancer is None or route.balancer.targets:
            continue
        service = services.get(name)
        if service is None or route.plugins or service.plugins or route.action.plugins:
            continue
        path: Path_ = ("services", name, "routes", index, "balancer")
        yield "the balancer has no targets, and no plugin can push any to it", path, ""


def _certificates_without_domain(builder: Builder) -> Iterator[Finding]:
    for name, service in builder.readable_services("acme"):
        if service.acme is None or service.acme.domains:
            continue
        discovers = service.acme.dns is not None and service.acme.dns.discover
        routes = [
            (index, route)
            for owner, index, route in builder.readable_routes("match", "action")
            if owner == name
        ]
        domains = [route.match.domain for _, route in routes if route.match and route.match.domain]
        if not domains and not discovers and builder.route_count(name) == len(routes):
            message = "no route has a domain, so there is nothing to get a certificate for"
            yield message, ("services", name, "acme"), 'give "acme.domains"'
        for index, route in routes:
            domain = route.match.domain if route.match else None
            if (
                domain
                and "*" in domain
                and service.acme.challenge != "dns"
                and not isinstance(route.action, PassAction)
            ):
                message = f'a certificate for "{domain}" needs the acme challenge "dns"'
                yield (
                    message,
                    ("services", name, "routes", index, "match", "domain"),
                    'or give "acme.domains"',
                )


def _bound(builder: Builder) -> Iterator[tuple[Path_, Plugin]]:
    """Every reference to a plugin, where it is written."""

    def members(path: Path_, references: Iterable[PluginRef]) -> Iterator[tuple[Path_, Plugin]]:
        for index, reference in enumerate(references):
            yield (*path, "plugins", index), reference.plugin

    for name, service in builder.readable_services("plugins"):
        yield from members(("services", name), service.plugins)
    for name, index, route in builder.readable_routes("plugins"):
        yield from members(("services", name, "routes", index), route.plugins)
    for path, action in builder.readable_actions("plugins"):
        yield from members(path, action.plugins)


def _plugins(builder: Builder) -> Iterator[tuple[Path_, Plugin]]:
    """Every plugin once: at its definition, or at the first reference by path."""
    for name, plugin in builder.plugins.items():
        yield ("plugins", name, "path"), plugin
    seen: set[str] = set()
    for path, plugin in _bound(builder):
        if not plugin.name and plugin.path not in seen:
            seen.add(plugin.path)
            yield path, plugin


def _missing_program(path: Path_, plugin: Plugin) -> Iterator[Finding]:
    source = go_source(plugin.path)
    program = plugin.path if source is None else str(source.program)
    if source is not None and not is_file(program):
        if exists(source.path):
            yield f"the program {program} must be compiled from {source.path}", path, 'run "prox build"'
        else:
            yield f"there is neither {source.path} nor the program {program}", path, ""
    elif is_folder(program):
        yield f"{program} is a folder without Go source", path, ""
    elif not is_file(program):
        yield f"there is no program {program}", path, ""
    elif not os.access(program, os.X_OK):
        yield f"the program {program} is not executable", path, f"chmod +x {program}"
    elif source is not None and out_of_date(program, source.files):
        yield f"{source.path} has changed since {program} was compiled", path, 'run "prox build"'


def _missing_accounts(path: Path_, limits: PluginLimits) -> Iterator[Finding]:
    """Only a doubt, as a missing program: the machine that serves may be another one."""
    for key, account, look_up in (("user", limits.user, pwd.getpwnam), ("group", limits.group, grp.getgrnam)):
        if account is None or (account.isascii() and account.isdigit()):
            continue
        try:
            look_up(account)
        except KeyError:
            message = f"there is no {key} {account} here, so the plugin can't be started"
            yield message, (*path, key), "create it, or name another"
    number = limits.user if limits.group is None else None
    if number is not None and number.isascii() and number.isdigit():
        try:
            pwd.getpwuid(int(number))
        except KeyError:
            message = f"user {number} is in no list of the system, so the plugin can't be started"
            yield message, (*path, "user"), 'give "group" too'


def _headers_of_others(service: Service | None, name: str, index: int, route: Route) -> Iterator[Finding]:
    """Headers that an action of the route sets although they are a plugin's own there."""
    actions = [route.action]
    while isinstance(actions[-1], ProxyAction) and actions[-1].fallback is not None:
        actions.append(actions[-1].fallback)
    references = [*(service.plugins if service is not None else ()), *route.plugins]
    references += [reference for action in actions for reference in action.plugins]
    owners = {_folded(own): found.plugin for found in references for own in found.plugin.own_headers}
    for action in actions:
        for header in action.headers if isinstance(action, ProxyAction) else ():
            owner = owners.get(_folded(header))
            if owner is not None:
                message = (
                    f'the action\'s header "{header}" is not set: it is among own_headers of "{owner.alias}"'
                )
                yield message, ("services", name, "routes", index), "take it out of one of them"


def _folded(header: str) -> str:
    return header.lower().replace("_", "-")


def _missing_files(path: Path_, action: ServeAction) -> Iterator[Finding]:
    if action.root is not None and not is_folder(action.root):
        yield f"there is no folder {action.root}", (*path, "root"), ""
    if action.file is not None and not is_file(action.file):
        yield f"there is no file {action.file}", (*path, "file"), ""


def _never_matched(builder: Builder) -> Iterator[Finding]:
    """Paths that are answered before routes are tried."""
    runtime = builder.readable_section("runtime", "dot_segments")
    if runtime is None or runtime.dot_segments != "reject":
        return
    for name, index, route in builder.readable_routes("match"):
        for path in route.match.paths if route.match is not None else ():
            if not {".", ".."}.isdisjoint(path.replace("\\", "/").split("/")):
                message = f'no request matches "{path}": one with "." or ".." in its path is answered with 400 before'
                place: Path_ = ("services", name, "routes", index, "match", "path")
                yield message, place, 'set "runtime.dot_segments" to "pass" if that is meant'
