"""Which certificate a client is shown, and what stays over changes. Handshakes are made in memory."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from prox.tls.pairs import Pair, make_pair
from prox.tls.policy import Policy
from prox.tls.selfsigned import LABEL, self_signed
from prox.tls.store import Store
from support.certificates import Certificate, authority

ONE, TWO, STAR, DEEP = (
    authority().issue(*names)
    for names in (
        ("one.example.com",),
        ("two.example.com", "three.example.com"),
        ("*.example.com",),
        ("*.deep.example.com",),
    )
)


def pair(made: Certificate, label: str = "") -> Pair:
    return make_pair(label, [made.certificate, *made.issuers], made.key_pem)


def store_of(*made: Certificate, policy: Policy | None = None, before: Store | None = None) -> Store:
    store = Store(policy or Policy(), before)
    store.configure(store.prepare([pair(each) for each in made]))
    return store


def client_context(alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority().pem.decode())
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def shake(
    server: ssl.SSLContext,
    name: str | None,
    client: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    servers: list[ssl.SSLObject] | None = None,
) -> ssl.SSLObject:
    """A handshake between two ends in memory; the client's end. The server's goes to `servers`."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = (client or client_context()).wrap_bio(back, there, server_hostname=name, session=session)
    other = server.wrap_bio(there, back, server_side=True)
    if servers is not None:
        servers.append(other)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in (one, other):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    with suppress(ssl.SSLWantReadError):
        one.read()  # takes the tickets that come behind the handshake
    return one


def shown(
    server: Store | ssl.SSLContext, name: str | None, client: ssl.SSLContext | None = None
) -> x509.Certificate:
    context = server.context if isinstance(server, Store) else server
    der = shake(context, name, client).getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one.example.com", ONE),
        ("ONE.Example.COM", ONE),
        ("three.example.com", TWO),
        ("four.example.com", STAR),
        ("a.deep.example.com", DEEP),
        ("a.b.deep.example.com", ONE),
        ("example.com", ONE),
        ("elsewhere.org", ONE),
        ("localhost", ONE),
        (None, ONE),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_exact_before_wildcard_before_the_default(
    name: str | None, expected: Certificate, version: ssl.TLSVersion
) -> None:
    client = client_context()
    client.maximum_version = client.minimum_version = version
    assert shown(store_of(ONE, STAR, TWO, DEEP), name, client) == expected.certificate


def test_of_two_for_one_name_the_one_that_is_valid_longer() -> None:
    old = authority().issue("one.example.com", expired=True)
    for made in ((old, ONE), (ONE, old)):
        store = store_of(*made)
        assert store._chosen.context("one.example.com") is store._chosen.contexts[pair(ONE).digest]


def test_without_any_certificate_handshakes_fail() -> None:
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        shake(Store(Policy()).context, "one.example.com")


def test_a_change_holds_for_the_next_handshake_and_sessions_go_on() -> None:
    store, client = store_of(ONE), client_context()
    session = shake(store.context, "one.example.com", client).session
    kept = store._chosen.contexts[pair(ONE).digest]
    store.configure(store.prepare([pair(TWO), pair(ONE)]))
    assert store._chosen.contexts[pair(ONE).digest] is kept
    assert shown(store, "two.example.com") == TWO.certificate
    assert shake(store.context, "one.example.com", client, session).session_reused
    # Another policy has other keys for its tickets.
    other = store_of(ONE, policy=Policy(min_version="1.3"), before=store)
    assert not shake(other.context, "one.example.com", client, session).session_reused


def test_what_is_put_in_shows_at_once_and_over_reloads() -> None:
    store = store_of(ONE)
    store.put("acme:two", pair(TWO))
    assert shown(store, "two.example.com") == TWO.certificate
    assert shown(store, None) == ONE.certificate
    store.configure(store.prepare([pair(ONE)]))
    assert shown(store, "two.example.com") == TWO.certificate
    renewed = authority().issue("two.example.com")
    prepared = store.prepare([pair(DEEP)])  # of a reload that began before
    store.put("acme:two", pair(renewed))
    store.configure(prepared)
    assert shown(store, "two.example.com") == renewed.certificate
    assert shown(store, None) == DEEP.certificate
    assert [each.names for each in store.pairs] == [("*.deep.example.com",), ("two.example.com",)]
    under_another = store_of(DEEP, policy=Policy(min_version="1.3"), before=store)
    assert shown(under_another, "two.example.com") == renewed.certificate
    store.remove("acme:two")
    store.remove("acme:two")
    assert shown(store, "two.example.com") == DEEP.certificate


def test_what_openssl_refuses_changes_nothing() -> None:
    store = store_of(ONE)
    broken = pair(TWO)
    object.__setattr__(broken, "key", ONE.key_pem)
    with pytest.raises(ssl.SSLError):
        store.put("acme:two", broken)
    assert [each.names for each in store.pairs] == [("one.example.com",)]
    store.put("acme:star", pair(STAR))


def test_a_challenge_has_its_own_context_and_protocol() -> None:
    store = store_of(ONE)
    store.challenge("one.example.com", pair(TWO))
    context = store.challenged("one.example.com")
    assert context is not None
    client = client_context(["acme-tls/1"])
    end = shake(context, "one.example.com", client)
    assert end.selected_alpn_protocol() == "acme-tls/1"
    assert shown(context, "one.example.com") == TWO.certificate
    assert shown(store, "one.example.com") == ONE.certificate
    store.challenge("one.example.com", None)
    assert store.challenged("one.example.com") is None


def test_what_alpn_chooses() -> None:
    store = store_of(ONE, TWO, policy=Policy(protocols=("h2", "http/1.1")))
    for offered, chosen in (
        (["http/1.1", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/1"], None),
        (None, None),
    ):
        for name in ("two.example.com", None):
            assert shake(store.context, name, client_context(offered)).selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_still_knows_the_clients_certificate(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    own = authority().issue(subject="alice", client=True)
    policy = Policy(client_auth="require", client_ca=authority().pem.decode())
    client = authority().client_context(own, tmp_path)
    client.check_hostname = False
    client.maximum_version = client.minimum_version = version
    for name in ("one.example.com", None):
        store, seen = store_of(ONE, policy=policy), []
        session = None
        for resumed in (False, True):
            ends: list[ssl.SSLObject] = []
            end = shake(store.context, name, client, session, ends)
            assert end.session_reused is resumed
            session = end.session
            seen.append(ends[0].getpeercert(binary_form=True))
        assert [x509.load_der_x509_certificate(der or b"") for der in seen] == [own.certificate] * 2


def test_versions_and_suites() -> None:
    old, new = client_context(), client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(store_of(ONE).context, None, old).version() == "TLSv1.2"
    assert shake(store_of(ONE).context, None, new).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shake(store_of(ONE, policy=Policy(min_version="1.3")).context, None, old)
    suite = "ECDHE-ECDSA-CHACHA20-POLY1305"
    cipher = shake(store_of(ONE, policy=Policy(ciphers=(suite,))).context, None, old).cipher()
    assert cipher is not None
    assert cipher[0] == suite
    for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
        old.set_ciphers(weak)
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure|no.shared.cipher"):
            shake(store_of(ONE).context, None, old)


def test_a_certificate_of_our_own() -> None:
    made = self_signed(["app.example.com", "localhost"])
    assert made.label == LABEL
    assert made.names == ("localhost", "app.example.com", "127.0.0.1", "::1")
    now = datetime.now(UTC)
    assert made.not_before < now < made.not_after < now + timedelta(days=398)
    assert self_signed(["app.example.com"], [made]) is made
    assert self_signed(["other.example.com"], [made]) is not made
    store = Store(Policy())
    store.configure(store.prepare([made]))
    client = client_context()
    client.load_verify_locations(cadata=made.chain.decode())
    client.check_hostname = True
    shake(store.context, "app.example.com", client)


def test_no_key_touches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store_of(ONE)
    assert not list(tmp_path.iterdir())
