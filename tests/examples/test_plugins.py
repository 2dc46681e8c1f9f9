"""The plugins of examples/, each asked through the harness of the SDK; the pages that show them run them behind prox."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from prox.sdk.testing import Harness, PluginEndedError, ProcessHarness, load, make_request

EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGINS = EXAMPLES / "plugins"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "script", [*PLUGINS.glob("*.py"), EXAMPLES / "authorize.py"], ids=lambda path: path.stem
)
def test_each_is_short_and_can_be_started(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 60
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    assert script.stat().st_mode & 0o111


# The plugins of script/server


def test_a_key_in_the_program() -> None:
    with Harness(load(EXAMPLES / "authorize.py")) as plugin:
        assert plugin.request().status == 401
        assert plugin.request(headers={"X-Api-Key": "wrong"}).status == 401
        allowed = plugin.request(headers={"X-Api-Key": "demo-key"})
        assert (allowed.allow, allowed.headers) == (True, {"X-User": "demo"})


def test_targets_follow_their_file(tmp_path: Path) -> None:
    script = tmp_path / "discover.py"
    script.write_text((EXAMPLES / "discover.py").read_text())
    file = tmp_path / "targets.json"
    file.write_text('["10.0.0.1:80"]')
    with ProcessHarness([sys.executable, script]) as plugin:
        assert plugin.push().params.targets == ["10.0.0.1:80"]
        file.write_text('["10.0.0.1:80", "10.0.0.2:80"]')
        assert plugin.push().params.targets == ["10.0.0.1:80", "10.0.0.2:80"]
        file.write_text('["10.0')
        plugin.log("targets.json is left as it was")
        file.write_text("[]")
        push = plugin.push()
        assert (push.params.route_id, push.params.targets) == ("web:0", [])
        assert len(plugin.pushes) == 3


# API keys


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "keys.json"
    monkeypatch.setenv("KEYS", str(file))
    return file


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_keys_from_a_file_that_changes(keys: Path) -> None:
    keys.write_text(json.dumps({digest("k-alice"): "alice"}))
    with Harness(load(PLUGINS / "api_key.py")) as plugin:

        def user(key: str) -> str | None:
            verdict = plugin.request(headers={"X-Api-Key": key})
            assert verdict.allow or verdict.status == 401
            return verdict.headers.get("X-User") if verdict.allow else None

        assert not plugin.request().allow
        assert (user("k-alice"), user("k-bob"), user(""), user(digest("k-alice"))) == (
            "alice",
            None,
            None,
            None,
        )
        keys.write_text(json.dumps({digest("k-bob"): "bob"}))
        until(lambda: user("k-bob"))
        assert user("k-alice") is None
        keys.write_text("{")
        plugin.log("the keys stay as they were")
        assert user("k-bob") == "bob"


def test_without_a_file_of_keys_it_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(PluginEndedError, match=r"keys\.json"),
        ProcessHarness([sys.executable, PLUGINS / "api_key.py"], cwd=tmp_path),
    ):
        pass


# Tokens


class Issuer:
    """Has a key of each kind and signs with them."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.stranger = rsa.generate_private_key(65537, 2048)

    def jwks(self) -> str:
        algorithms: dict[str, Any] = {"rsa": jwt.algorithms.RSAAlgorithm, "ec": jwt.algorithms.ECAlgorithm}
        keys = [
            {**algorithms[kid].to_jwk(key.public_key(), as_dict=True), "kid": kid}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": keys})

    def token(
        self,
        kid: str = "rsa",
        algorithm: str = "RS256",
        *,
        key: Any = None,
        headers: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        known = {"iss": "https://issuer.test", "aud": "shop", "sub": "alice", "exp": time.time() + 60}
        payload = {name: value for name, value in {**known, **claims}.items() if value is not None}
        return jwt.encode(payload, key or self.keys[kid], algorithm, headers or {"kid": kid})


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def bearer(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    file = tmp_path / "jwks.json"
    file.write_text(issuer.jwks())
    monkeypatch.setenv("JWKS", str(file))
    monkeypatch.setenv("ISSUER", "https://issuer.test")
    monkeypatch.setenv("AUDIENCE", "shop")
    with Harness(load(PLUGINS / "bearer.py")) as plugin:
        yield plugin


def test_good_tokens(bearer: Harness, issuer: Issuer) -> None:
    for kid, algorithm in (("rsa", "RS256"), ("ec", "ES256")):
        token = issuer.token(kid, algorithm, scope="read")
        allowed = bearer.request(headers={"Authorization": f"Bearer {token}"})
        assert (allowed.allow, allowed.headers) == (True, {"X-User": "alice", "X-Scope": "read"})
    assert bearer.request(headers={"authorization": f"bearer {issuer.token()}"}).allow


def test_tokens_that_are_not_good(bearer: Harness, issuer: Issuer) -> None:
    good = issuer.token()
    head, body, _ = good.split(".")
    secret = "x" * 40
    tokens = {
        "expired": issuer.token(exp=time.time() - 60),
        "not yet": issuer.token(nbf=time.time() + 60),
        "without an end": issuer.token(exp=None),
        "for another": issuer.token(aud="other"),
        "by another": issuer.token(iss="https://other.test"),
        "of nobody": issuer.token(sub=None),
        "signed by a stranger": issuer.token(key=issuer.stranger),
        "with an unknown key": issuer.token(headers={"kid": "gone"}),
        "without a key": issuer.token(headers={"typ": "JWT"}),
        "with another key's name": issuer.token("rsa", headers={"kid": "ec"}),
        "with a shared secret": issuer.token(key=secret, algorithm="HS256"),
        "not signed": jwt.encode({"sub": "alice"}, "", "none", {"kid": "rsa"}),
        "cut": f"{head}.{body}.",
        "none at all": "",
        "no token": "abc",
        "no text": "\x00ü",
    }
    for why, token in tokens.items():
        denied = bearer.request(headers={"Authorization": f"Bearer {token}"})
        assert (denied.allow, denied.status) == (False, 401), why
        assert denied.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}, why
    for headers in ({}, {"Authorization": good}, {"Authorization": f"Basic {good}"}):
        denied = bearer.request(headers=headers)
        assert (denied.status, denied.headers) == (401, {"WWW-Authenticate": "Bearer"})


# Canary, tags, names


def test_the_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCENT", "10")
    with Harness(load(PLUGINS / "canary.py")) as plugin:
        clients = [f"10.0.{n % 7}.{n}:{1000 + n}" for n in range(250)]
        drawn = [plugin.request(client=client).fallback for client in clients]
        assert 5 < sum(drawn) < 50
        assert [plugin.request(client=client.replace(":1", ":2")).fallback for client in clients] == drawn
        assert all(plugin.request(client=client, headers={"X-Canary": "yes"}).fallback for client in clients)
        assert all(plugin.request(client=client, headers={"X-Canary": "no"}).allow for client in clients)


def test_no_canary_unless_asked() -> None:
    with Harness(load(PLUGINS / "canary.py")) as plugin:
        assert all(plugin.request(client=f"10.0.0.{n}:1").allow for n in range(100))
        assert plugin.request(headers={"X-Canary": "yes"}).fallback


def test_tags() -> None:
    with Harness(load(PLUGINS / "tag.py")) as plugin:
        plain = plugin.response(200, {"Server": "x", "Content-Type": "text/html"})
        assert plain.headers == {"X-Served-By": "web:0", "Cache-Control": "no-store"}
        assert plain.remove == ["Server", "X-Powered-By", "X-Debug"]
        request = make_request(vars={"variant": "blue"}, target="10.0.0.1:80")
        cached = plugin.response(200, {"cache-control": "max-age=60"}, request=request)
        assert cached.headers == {"X-Served-By": "10.0.0.1:80", "X-Variant": "blue"}
        assert plugin.response(503, {"Cache-Control": "max-age=60"}).headers["Cache-Control"] == "no-store"


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMES", "a.test, *.Example.com")
    with Harness(load(PLUGINS / "allow_list.py")) as plugin:
        assert plugin.hooks == {"on_connect"}
        for name in ("a.test", "A.test", "b.example.com"):
            assert plugin.connect(name), name
        for name in ("b.test", "x.a.test", "example.com", "x.b.example.com", "", "com", "*.a.test"):
            assert not plugin.connect(name), name
        assert plugin.log("turned away").fields["name"] == "b.test"
