"""From the parts of a configuration to the model: validates each part once and resolves names on the way.

Named things are validated first and handed to whoever names them, so a problem in an action that a hundred
routes use is reported once, where the action stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

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
    Resource,
    Route,
    Runtime,
    Service,
)
from .model.actions import ActionSlot

if TYPE_CHECKING:
    from pathlib import Path

    from .assemble import Assembly, Part
    from .problem import Problem

M = TypeVar("M", bound=Model)

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
        self._sections: dict[str, Any] = {}
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
                self._sections[name] = section

    def config(self) -> Config:
        """The whole; only where there were no errors."""
        return Config.model_construct(
            {"services", "plugins", "actions", "resources", *self._sections},
            services=self.services,
            plugins=self.plugins,
            actions=self.actions,
            resources=self.resources,
            **self._sections,
        )

    @property
    def admin(self) -> Admin | None:
        """The admin section, where it is valid."""
        return self._sections.get("admin")

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
        for index, part in enumerate(self._assembly.routes[name]):
            route = self._validate(part, Route)
            if route is not None:
                routes[index] = route
        part = self._assembly.services[name]
        raw = {**part.raw, "routes": tuple(routes.values())}
        try:
            service = Service.model_validate(raw, context=self._context(part))
        except ValidationError as failure:
            self.problems.extend(explain(failure, part, Service))
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
