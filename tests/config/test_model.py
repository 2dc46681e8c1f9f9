"""What a valid document becomes: defaults, resolved names, and values in prox's own units."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prox.config import Loaded, parse
from prox.config.model import (
    HOOKS,
    AcmeDns,
    AcmeS3,
    Admin,
    Config,
    DropAction,
    Match,
    OnError,
    PassAction,
    Plugin,
    ProxyAction,
    Route,
    Service,
    StaticAction,
    Tuning,
    secret_fields,
)

BASE = Path("/etc/prox")


def load_service(service: dict[str, Any], **root: Any) -> Service:
    return parse_ok({"services": {"web": {"listen": ":8080", **service}}, **root}).config.services["web"]


def load_route(route: dict[str, Any], **root: Any) -> Route:
    return load_service({"routes": [{"action": {"type": "drop"}, **route}]}, **root).routes[0]


def parse_ok(document: dict[str, Any]) -> Loaded:
    return parse(document, BASE)


def test_a_services_defaults_are_those_of_the_table() -> None:
    service = load_service({})
    assert service.name == "web"
    assert service.listen == ("tcp", "", 8080, "")
    assert (service.h2, service.tls, service.acme, service.tls_cert) == (True, False, None, None)
    assert (service.trusted_proxies, service.plugins, service.routes) == ((), (), ())
    assert service.config == Tuning()
    assert service.config.model_dump() == {
        "read_timeout": None,
        "write_timeout": None,
        "read_header_timeout": 10.0,
        "min_body_rate": 256,
        "idle_timeout": 120.0,
        "response_header_timeout": 30.0,
        "flush_interval": 0.0,
        "dial_timeout": 30.0,
        "keep_alive": 30.0,
        "tls_handshake_timeout": 10.0,
        "max_idle_conns": 4096,
        "max_idle_conns_per_host": 4096,
        "read_buffer_size": 32768,
        "write_buffer_size": 32768,
        "h2_read_idle_timeout": 30.0,
        "h2_ping_timeout": 15.0,
        "max_connections": 0,
        "max_connections_per_client": 0,
        "max_requests_per_connection": 0,
        "max_pipelined": 16,
        "disable_compression": True,
        "max_header_bytes": 65536,
        "max_header_count": 100,
        "max_target_bytes": 16384,
        "max_response_header_bytes": 262144,
        "max_body_bytes": 0,
        "via": None,
        "tls_min_version": "1.2",
        "tls_ciphers": (),
        "tls_client_ca": None,
        "tls_client_auth": "off",
        "h2c": False,
        "relay_idle_timeout": None,
        "proxy_protocol": False,
    }


def test_a_routes_defaults() -> None:
    route = load_route({})
    assert route.match is None
    assert (route.plugins, route.plugin_timeout, route.balancer, route.speed) == ((), 5.0, None, None)
    assert (route.set, route.access_log) == ({}, None)
    assert isinstance(route.action, DropAction)
    assert route.action.name == ""


def test_a_proxy_actions_defaults() -> None:
    action = load_route({"action": {"type": "proxy", "upstream": "a:1"}}).action
    assert isinstance(action, ProxyAction)
    assert (action.upstream, action.timeout, action.headers, action.fallback) == ("a:1", None, {}, None)
    assert (action.proto, action.stream, action.tls, action.send_proxy) == (None, False, None, None)
    assert (action.max_connections, action.max_queue, action.queue_timeout) == (0, 0, 10.0)
    assert (action.health.min, action.health.max) == (1.0, 30.0)


def test_a_plugins_defaults() -> None:
    plugin = parse_ok({"plugins": {"guard": {"path": "bin/guard"}}}).config.plugins["guard"]
    assert (plugin.alias, plugin.path) == ("guard", "/etc/prox/bin/guard")
    assert (plugin.args, plugin.env, plugin.env_pass, plugin.cwd) == ((), {}, (), None)
    assert plugin.on_error == OnError(request="deny", response="allow", connect="deny")
    assert (plugin.push_scope, plugin.hooks, plugin.own_headers) == ("all", None, ())
    assert (plugin.start_timeout, plugin.max_concurrency, plugin.limits, plugin.autostart) == (
        10.0,
        256,
        None,
        False,
    )


def test_the_programs_defaults() -> None:
    config = parse_ok({}).config
    assert (config.services, config.plugins, config.actions, config.resources) == ({}, {}, {}, {})
    assert config.admin is None
    assert (config.logging.level, config.logging.access_log, config.logging.error_log) == ("info", None, None)
    assert (config.runtime.workers, config.runtime.shutdown_timeout) == (None, 15.0)
    assert config.runtime.dot_segments == "reject"
    assert config.runtime.max_plugin_line_bytes == 16 * 1024 * 1024
    assert config.runtime.max_plugin_frame_bytes == 1024 * 1024


def test_durations_are_seconds_and_zero_is_off() -> None:
    tuning = load_service(
        {
            "config": {
                "idle_timeout": "1m30s",
                "read_timeout": "100ms",
                "response_header_timeout": 0,
                "keep_alive": "0",
            }
        }
    ).config
    assert (tuning.idle_timeout, tuning.read_timeout) == (90.0, 0.1)
    assert (tuning.response_header_timeout, tuning.keep_alive) == (None, None)


@pytest.mark.parametrize(
    ("given", "seconds"), [(-1, -1.0), ("-1s", -1.0), ("-1", -1.0), (0, 0.0), ("50ms", 0.05)]
)
def test_flush_interval_may_be_negative(given: object, seconds: float) -> None:
    assert load_service({"config": {"flush_interval": given}}).config.flush_interval == pytest.approx(seconds)


def test_names_lead_to_the_same_object_everywhere() -> None:
    config = parse_ok(
        {
            "plugins": {"guard": {"path": "guard"}},
            "resources": {"page": {"text": "hello"}},
            "actions": {
                "web": {"type": "proxy", "upstream": "a:1", "fallback": "sorry", "plugins": ["guard"]},
                "sorry": {"type": "static", "status": 503, "body_ref": "page"},
            },
            "services": {
                "web": {
                    "listen": ":1",
                    "plugins": ["guard"],
                    "routes": [{"action": "web"}, {"action": "web"}],
                }
            },
        }
    ).config
    web, sorry = config.actions["web"], config.actions["sorry"]
    service = config.services["web"]
    assert isinstance(web, ProxyAction)
    assert isinstance(sorry, StaticAction)
    assert (web.name, sorry.name) == ("web", "sorry")
    assert service.routes[0].action is service.routes[1].action is web
    assert web.fallback is sorry
    assert sorry.body_ref is config.resources["page"]
    assert config.resources["page"].name == "page"
    assert web.plugins[0].plugin is service.plugins[0].plugin is config.plugins["guard"]


def test_inline_objects_have_no_name() -> None:
    action = load_route(
        {
            "action": {
                "type": "proxy",
                "upstream": "a:1",
                "fallback": {"type": "static", "body_ref": {"json": None}},
            }
        }
    ).action
    assert isinstance(action, ProxyAction)
    assert isinstance(action.fallback, StaticAction)
    assert action.fallback.body_ref is not None
    assert (action.name, action.fallback.name, action.fallback.body_ref.name) == ("", "", "")
    assert (action.fallback.body_ref.kind, action.fallback.body_ref.json_value) == ("json", None)


def test_a_plugin_by_path_is_one_plugin_wherever_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "guard").touch(mode=0o755)
    (tmp_path / "src.go").touch()
    routes = [
        {"plugins": ["./guard", "src"], "action": {"type": "drop"}},
        {
            "plugins": [{"name": "guard", "timeout": "1s"}, str(tmp_path / "guard")],
            "action": {"type": "drop"},
        },
    ]
    config = parse({"services": {"web": {"listen": ":1", "routes": routes}}}, tmp_path).config
    first, second = config.services["web"].routes
    by_path = first.plugins[0].plugin
    assert by_path.alias == by_path.path == str(tmp_path / "guard")
    assert by_path.name == ""
    assert second.plugins[0].plugin is second.plugins[1].plugin is by_path
    assert (second.plugins[0].timeout, second.plugins[1].timeout) == (1.0, None)
    assert first.plugins[1].plugin.path == str(tmp_path / "src")
    assert config.plugins == {}


@pytest.mark.parametrize(
    ("plugin", "binding", "expected"),
    [
        ("deny", None, None),
        ("deny", "allow", OnError(request="allow", response="allow", connect="allow")),
        ("allow", "deny", OnError(request="deny", response="allow", connect="deny")),
        ({"response": "deny"}, "allow", OnError(request="allow", response="deny", connect="allow")),
        ("allow", {"response": "deny"}, OnError(request="allow", response="deny", connect="allow")),
        (
            {"connect": "allow"},
            {"request": "allow"},
            OnError(request="allow", response="allow", connect="allow"),
        ),
    ],
)
def test_a_bindings_policy_completes_itself_from_the_plugin(
    plugin: object, binding: object, expected: OnError | None
) -> None:
    reference = {"name": "guard"} if binding is None else {"name": "guard", "on_error": binding}
    route = load_route({"plugins": [reference]}, plugins={"guard": {"path": "guard", "on_error": plugin}})
    assert route.plugins[0].on_error == expected


def test_all_keys_of_a_plugin() -> None:
    plugin = parse_ok(
        {
            "plugins": {
                "guard": {
                    "path": "/bin/guard",
                    "autostart": True,
                    "args": ["-v"],
                    "env": {"A": "1"},
                    "env_pass": ["AWS_*"],
                    "cwd": "work",
                    "push_scope": "bound",
                    "hooks": list(HOOKS),
                    "own_headers": ["X-User-Id"],
                    "start_timeout": "2s",
                    "max_concurrency": 5,
                    "limits": {
                        "memory": 1,
                        "open_files": 2,
                        "cpu_time": "1m",
                        "nice": -5,
                        "user": "u",
                        "group": 7,
                    },
                }
            }
        }
    ).config.plugins["guard"]
    assert plugin.autostart
    assert (plugin.args, plugin.env, plugin.env_pass) == (("-v",), {"A": "1"}, ("AWS_*",))
    assert (plugin.cwd, plugin.push_scope, plugin.hooks) == ("/etc/prox/work", "bound", HOOKS)
    assert (plugin.own_headers, plugin.start_timeout, plugin.max_concurrency) == (("X-User-Id",), 2.0, 5)
    assert plugin.limits is not None
    assert plugin.limits.model_dump() == {
        "memory": 1,
        "open_files": 2,
        "cpu_time": 60.0,
        "nice": -5,
        "user": "u",
        "group": "7",
    }


def test_no_hooks_and_unknown_hooks_differ() -> None:
    plugins = parse_ok({"plugins": {"a": {"path": "a", "hooks": []}, "b": {"path": "b"}}}).config.plugins
    assert plugins["a"].hooks == ()
    assert plugins["b"].hooks is None


def test_a_match_keeps_its_text_and_gives_its_parts() -> None:
    match = load_route(
        {"match": {"domain": "*.Example.com", "path": "/a, /b/*", "methods": ["get", "GET", "Put"]}}
    ).match
    assert match is not None
    assert (match.domain, match.path) == ("*.Example.com", "/a, /b/*")
    assert match.paths == ("/a", "/b/*")
    assert match.methods == ("GET", "PUT")
    methods_only = load_route({"match": {"methods": ["POST"]}}).match
    assert methods_only == Match(methods=("POST",))
    assert (methods_only.domain, methods_only.paths) == (None, ())


def test_a_pass_route() -> None:
    route = load_route(
        {
            "match": {"domain": "*.example.com"},
            "set": {"zone": "eu"},
            "balancer": {"targets": ["a:443", "[::1]:443"]},
            "action": {"type": "pass", "upstream": "{target}", "timeout": "2s"},
        }
    )
    assert route.action == PassAction(type="pass", upstream="{target}", timeout=2.0)


def test_paths_count_from_the_base(tmp_path: Path) -> None:
    base = tmp_path / "prox"
    (base / "log").mkdir(parents=True)
    loaded = parse(
        {
            "logging": {"access_log": "log/access", "error_log": "../error"},
            "services": {
                "web": {
                    "listen": ":1",
                    "routes": [
                        {"access_log": "off", "action": {"type": "serve", "root": "/srv", "access_log": "x"}},
                        {"access_log": "./y", "action": {"type": "serve", "file": "z"}},
                    ],
                }
            },
        },
        base,
    )
    logging, (first, second) = loaded.config.logging, loaded.config.services["web"].routes
    assert (logging.access_log, logging.error_log) == (f"{base}/log/access", f"{tmp_path}/error")
    assert (first.access_log, first.action.access_log) == ("off", f"{base}/x")
    assert second.access_log == f"{base}/y"
    assert second.action.model_dump(include={"root", "file"}) == {"root": None, "file": f"{base}/z"}


def test_networks_and_levels() -> None:
    service = load_service({"trusted_proxies": ["10.0.0.0/8", "::1"]}, logging={"level": "WARN"})
    assert service.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))


@pytest.mark.parametrize(
    ("keys", "tls"),
    [
        ({}, False),
        ({"acme": {"email": "a@example.com", "domains": ["a.example.com"]}}, True),
        ({"tls_cert": "pair.pem", "tls_key": "pair.key"}, True),
        ({"tls_cert": "pair.pem", "tls_key": "pair.key", "tls": False}, False),
        ({"tls_cert": ".", "tls": True}, True),
    ],
)
def test_certificates_turn_tls_on(tmp_path: Path, keys: dict[str, Any], tls: bool) -> None:
    (tmp_path / "pair.pem").touch()
    (tmp_path / "pair.key").touch()
    loaded = parse({"services": {"web": {"listen": ":1", **keys}}}, tmp_path)
    assert loaded.config.services["web"].tls is tls


def test_acme_is_filled_in() -> None:
    acme = load_service({"acme": {"email": "a@example.com", "domains": ["a.example.com"]}}).acme
    assert acme is not None
    assert (acme.cas, acme.challenge, acme.storage_type) == (("letsencrypt",), "alpn", "file")
    assert acme.storage == "/etc/prox/acme"
    dns = {"provider": "cloudflare", "discover": True}
    acme = load_service(
        {"acme": {"email": "a@example.com", "ca": "staging", "challenge": "dns", "dns": dns}}
    ).acme
    assert acme is not None
    assert acme.dns is not None
    assert acme.cas == ("staging",)
    assert acme.dns.resolvers == ("1.1.1.1:53", "8.8.8.8:53")


def test_admin() -> None:
    admin = parse_ok({"admin": {"listen": ":9090", "token": "s3cret"}}).config.admin
    assert admin is not None
    assert (admin.listen.port, admin.token) == (9090, "s3cret")
    assert "s3cret" not in repr(admin)
    admin = parse_ok({"admin": {"listen": "unix:///run/prox.sock"}}).config.admin
    assert admin is not None
    assert (admin.listen.kind, admin.token) == ("unix", None)


def test_secret_fields_are_marked_and_never_shown() -> None:
    assert secret_fields(Admin) == {"token"}
    assert secret_fields(AcmeDns) == {"token"}
    assert secret_fields(AcmeS3) == {"access_key", "secret_key"}
    assert secret_fields(Plugin) == {"env"}
    assert secret_fields(ProxyAction) == {"headers"}
    assert secret_fields(Service) == frozenset()
    plugin = parse_ok({"plugins": {"p": {"path": "p", "env": {"PASSWORD": "hunter2"}}}}).config.plugins["p"]
    assert "hunter2" not in repr(plugin)


def test_models_are_frozen() -> None:
    service = load_service({})
    with pytest.raises(ValidationError):
        service.h2 = False  # type: ignore[misc] # what must not work


def test_equal_documents_give_equal_configurations() -> None:
    document = {"services": {"web": {"listen": ":1", "routes": [{"action": {"type": "drop"}}]}}}
    one, other = parse_ok(document).config, parse_ok(document).config
    assert one == other
    assert isinstance(one, Config)
    assert one.services["web"] is not other.services["web"]
