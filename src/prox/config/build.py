"""From the parts of a configuration to the model: validates each part once and resolves names on the way.

Named things are validated first and handed to whoever names them, so a problem in an action that a hundred
routes use is reported once, where the action stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .drafts import Draft, action_model, draft
from .explain import explain
from .files import Surroundings
from .invalid import AlreadyReportedError, InvalidError, suggestion
from .model import (
    Action,
    Admin,
    Config,
    Logging,
    Model,
    Plugin,
    ProxyAction,
    Resource,
    Route,
    Runtime,
    Service,
)
from .model.actions import ActionSlot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .assemble import Assembly, Part
    from .problem import Problem

M = TypeVar("M", bound=Model)
K = TypeVar("K")

_ACTION: TypeAdapter[Action] = TypeAdapter(ActionSlot)
_SECTIONS: dict[str, type[Model]] = {"logging": Logging, "admin": Admin, "runtime": Runtime}


class Builder:
    """Builds every part of an assembly; `problems` holds what was wrong, `config` gives the result."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.problems: list[Problem] = []
        self.resources: dict[str, Resource] = {}
        self.plugins: dict[str, Plugin] = {}
        self.actions: dict[str, Action] = {}
        self.routes: dict[str, dict[int, Route]] = {}
        self.services: dict[str, Service] = {}
        self.draft_actions: dict[str, Draft[Any]] = {}
        self.draft_routes: dict[str, dict[int, Draft[Route]]] = {}
        self.draft_services: dict[str, Draft[Service]] = {}
        self.sections: dict[str, Any] = {}
        self.draft_sections: dict[str, Draft[Any]] = {}
        self._open_actions: list[str] = []
        self._failed: set[tuple[str, str]] = set()
        self._contexts: dict[Path, Surroundings] = {}
        self._unnamed: dict[str, Plugin] = {}

    def build(self) -> None:
        """Validate everything."""
        named = self._assembly.named
        for name, part in named["resources"].items():
            resource = self._validate(part, Resource)
            if resource is not None:
                self.resources[name] = resource.named(name)
        for name, part in named["plugins"].items():
            plugin = self._validate(part, Plugin)
            if plugin is not None:
                self.plugins[name] = plugin.named(name)
        for name in named["actions"]:
            self._build_action(name)
        for name in self._assembly.services:
            self._build_service(name)
        for name, part in self._assembly.sections.items():
            section = self._validate(part, _SECTIONS[name])
            if section is not None:
                self.sections[name] = section
            else:
                self._draft(self.draft_sections, name, part, _SECTIONS[name])

    def config(self) -> Config:
        """The whole; only where there were no errors."""
        return self._config(self.services, self.actions, self.sections)

    def draft(self) -> Config:
        """The same with whatever could be read, to look for more problems: in place of a broken route is None."""
        services = {}
        for name, routes in self.routes.items():
            drafts = self.draft_routes[name]
            listed = [
                routes.get(index) or (drafts[index].model if index in drafts else None)
                for index in range(self.route_count(name))
            ]
            service = self.services.get(name)
            if service is None and name in self.draft_services:
                service = self.draft_services[name].model
            if service is not None:
                services[name] = service.model_copy(update={"routes": tuple(listed)})
        actions = {name: found.model for name, found in self.draft_actions.items()}
        sections = {name: found.model for name, found in self.draft_sections.items()}
        return self._config(services, {**self.actions, **actions}, {**self.sections, **sections})

    def _config(
        self, services: dict[str, Service], actions: dict[str, Any], sections: dict[str, Any]
    ) -> Config:
        return Config.model_construct(
            {"services", "plugins", "actions", "resources", *sections},
            services=services,
            plugins=self.plugins,
            actions=actions,
            resources=self.resources,
            **sections,
        )

    def readable_services(self, *keys: str) -> Iterator[tuple[str, Service]]:
        """The services of which these keys are valid, whatever else is wrong with them."""
        for name in self._assembly.services:
            service = self.services.get(name)
            if service is None and name in self.draft_services:
                service = _read(self.draft_services[name], keys)
            if service is not None:
                yield name, service

    def readable_routes(self, *keys: str) -> Iterator[tuple[str, int, Route]]:
        """The routes of which these keys are valid, with their service and their number in it."""
        for name, routes in self.routes.items():
            drafts = self.draft_routes[name]
            for index in range(self.route_count(name)):
                route = routes.get(index)
                if route is None and index in drafts:
                    route = _read(drafts[index], keys)
                if route is not None:
                    yield name, index, route

    def readable_section(self, name: str, *keys: str) -> Any:
        """A section of which these keys are valid, or its defaults; None where it can't be read, or is off."""
        if name not in self._assembly.sections:
            return Config.model_fields[name].default
        if name in self.sections:
            return self.sections[name]
        found = self.draft_sections.get(name)
        return None if found is None else _read(found, keys)

    def readable_actions(self, *keys: str) -> Iterator[tuple[tuple[str | int, ...], Action]]:
        """The actions of which these keys are valid, where they are written; keys that a type has not are."""
        starts: list[tuple[tuple[str | int, ...], Action]] = [
            (("actions", name), action) for name, action in self.actions.items()
        ]
        for name, found in self.draft_actions.items():
            action = _read(found, keys)
            if action is not None:
                starts.append((("actions", name), action))
        for name, index, route in self.readable_routes("action"):
            if not route.action.name:
                starts.append((("services", name, "routes", index, "action"), route.action))
        for start, first in starts:
            path, action = start, first
            yield path, action
            while (
                isinstance(action, ProxyAction) and action.fallback is not None and not action.fallback.name
            ):
                path, action = (*path, "fallback"), action.fallback
                yield path, action

    @property
    def knows_bindings(self) -> bool:
        """Whether it is known of all services, routes and actions which plugins they refer to."""
        if self._assembly.problems or len(self.draft_actions) < len(self._failed):
            return False
        if any(found.may_bind() or found.model.plugins for found in self.draft_actions.values()):
            return False
        for name, routes in self.routes.items():
            drafts = self.draft_routes[name]
            if len(routes) + len(drafts) < self.route_count(name):
                return False
            if any(found.may_bind() for found in drafts.values()):
                return False
        return not any(found.may_bind() for found in self.draft_services.values())

    @property
    def is_empty(self) -> bool:
        """Whether the configuration could be read, and has no service."""
        return not self._assembly.services and not self._assembly.problems

    @property
    def has_broken_plugins(self) -> bool:
        """Whether the definition of some plugin is not valid."""
        return len(self.plugins) < len(self._assembly.named["plugins"])

    def route_count(self, service: str) -> int:
        """How many routes a service has, valid or not."""
        return len(self._assembly.routes[service])

    def is_without_routes(self, service: str) -> bool:
        """Whether a service has no routes at all, as opposed to none that are valid."""
        return not self._assembly.services[service].raw.get("routes")

    def _build_service(self, name: str) -> None:
        routes = self.routes[name] = {}
        drafts = self.draft_routes[name] = {}
        for index, part in enumerate(self._assembly.routes[name]):
            route = self._validate(part, Route)
            if route is not None:
                routes[index] = route
            else:
                self._draft(drafts, index, part, Route)
        part = self._assembly.services[name]
        raw = {**part.raw, "routes": tuple(routes.values())}
        try:
            service = Service.model_validate(raw, context=self._context(part))
        except ValidationError as failure:
            self.problems.extend(explain(failure, part, Service))
            self._draft(self.draft_services, name, part, Service, without="routes")
        else:
            self.services[name] = service.named(name)

    def _build_action(self, name: str) -> Action | None:
        if name in self.actions:
            return self.actions[name]
        part = self._assembly.named["actions"][name]
        self._open_actions.append(name)
        try:
            action = _ACTION.validate_python(part.raw, context=self._context(part))
        except ValidationError as failure:
            self.problems.extend(explain(failure, part, None))
            self._failed.add(("action", name))
            self._draft(self.draft_actions, name, part, action_model(part.raw))
            return None
        finally:
            self._open_actions.pop()
        self.actions[name] = action.named(name)
        return action

    def _validate(self, part: Part, model: type[M]) -> M | None:
        try:
            return model.model_validate(part.raw, context=self._context(part))
        except ValidationError as failure:
            self.problems.extend(explain(failure, part, model))
            return None

    def _draft(
        self,
        table: dict[K, Draft[M]],
        key: K,
        part: Part,
        model: type[M] | None,
        *,
        without: str = "",
    ) -> None:
        raw = part.raw
        if without and isinstance(raw, dict):
            raw = {name: value for name, value in raw.items() if name != without}
        found = None if model is None else draft(model, raw, self._context(part))
        if found is not None:
            table[key] = found

    def _context(self, part: Part) -> Surroundings:
        base = part.document.base
        context = self._contexts.get(base)
        if context is None:
            context = self._contexts[base] = Surroundings(self, base)
        return context

    def find_action(self, name: str) -> Action:
        """The action of that name; raises InvalidError."""
        action = self.actions.get(name)
        if action is not None:
            return action
        known = self._assembly.named["actions"]
        if name not in known:
            raise InvalidError(f'there is no action "{name}"', suggestion(name, known))
        if name in self._open_actions:
            circle = [*self._open_actions[self._open_actions.index(name) :], name]
            raise InvalidError(f"the fallback goes round in a circle: {' > '.join(circle)}")
        if ("action", name) in self._failed or (action := self._build_action(name)) is None:
            raise AlreadyReportedError(name)
        return action

    def find_resource(self, name: str) -> Resource:
        """The resource of that name; raises InvalidError."""
        resource = self.resources.get(name)
        if resource is not None:
            return resource
        known = self._assembly.named["resources"]
        if name in known:
            raise AlreadyReportedError(name)
        raise InvalidError(f'there is no resource "{name}"', suggestion(name, known))

    def find_plugin(self, name: str) -> Plugin | None:
        """The plugin of that name, or None; raises InvalidError for one that has problems."""
        plugin = self.plugins.get(name)
        if plugin is None and name in self._assembly.named["plugins"]:
            raise AlreadyReportedError(name)
        return plugin

    def unnamed_plugin(self, path: str, context: Surroundings) -> Plugin:
        """The plugin at an absolute path, the same for all references to it."""
        plugin = self._unnamed.get(path)
        if plugin is None:
            plugin = self._unnamed[path] = Plugin.model_validate({"path": path}, context=context)
        return plugin

    @property
    def plugin_names(self) -> list[str]:
        """All names of plugins, of broken ones too."""
        return list(self._assembly.named["plugins"])


def _read(found: Draft[M], keys: tuple[str, ...]) -> M | None:
    return None if found.unread.intersection(keys) else found.model
