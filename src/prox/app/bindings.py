"""From configured plugins and references to what the plugin host is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prox.config import model
from prox.config.gosource import program
from prox.plugin import Binding, OnError, PluginLimits, PluginSpec
from prox.wire import MatchInfo


class Bindings:
    """The plugins of one configuration, bound to its routes."""

    def __init__(self, runtime: model.Runtime) -> None:
        self._runtime = runtime
        self._specs: dict[int, PluginSpec] = {}  # by identity: the configuration outlives this

    def of_route(self, route_id: str, service: model.Service, route: model.Route) -> Iterator[Binding]:
        """The bindings of a route: those of service, action and route in this order, then those of each fallback."""
        stages: list[Iterable[model.PluginRef]] = [
            (*service.plugins, *route.action.plugins, *route.plugins),
            *(action.plugins for action in _fallbacks(route.action)),
        ]
        match = route.match
        shown = None if match is None else MatchInfo(domain=match.domain or "", path=match.path or "")
        for stage, references in enumerate(stages):
            for reference in references:
                yield Binding(
                    route_id=route_id,
                    plugin=self.spec(reference.plugin),
                    match=shown,
                    timeout=route.plugin_timeout,
                    plugin_timeout=reference.timeout,
                    on_error=_on_error(reference.on_error or reference.plugin.on_error),
                    stage=stage,
                )

    def without_route(self, plugin: model.Plugin) -> Binding:
        """The binding of a plugin that runs whether a route names it or not."""
        return Binding(route_id="", plugin=self.spec(plugin))

    def spec(self, config: model.Plugin) -> PluginSpec:
        """How the host runs a configured plugin."""
        spec = self._specs.get(id(config))
        if spec is None:
            spec = self._specs[id(config)] = PluginSpec(
                path=program(config.path),
                alias=config.alias,
                args=config.args,
                env=dict(config.env),
                env_pass=config.env_pass,
                cwd=config.cwd,
                hooks=config.hooks,
                start_timeout=config.start_timeout,
                max_concurrency=config.max_concurrency,
                push_scope=config.push_scope,
                own_headers=config.own_headers,
                autostart=config.autostart,
                max_line=self._runtime.max_plugin_line_bytes,
                max_frame=self._runtime.max_plugin_frame_bytes,
                limits=_limits(config.limits),
            )
        return spec


def _fallbacks(action: model.Action) -> Iterator[model.Action]:
    while isinstance(action, model.ProxyAction) and action.fallback is not None:
        action = action.fallback
        yield action


def _limits(config: model.PluginLimits | None) -> PluginLimits | None:
    """None also where an object limits nothing, so that it makes no other program of it."""
    if config is None:
        return None
    return PluginLimits(**config.model_dump()) or None


def _on_error(config: model.OnError) -> OnError:
    return OnError(request=config.request, response=config.response, connect=config.connect)
