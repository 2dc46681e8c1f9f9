"""Binding addresses: what is refused and why, and what a listener leaves behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from prox.app.errors import StartError
from prox.app.listening import Listener, bind
from prox.config.addresses import ListenAddress


def tcp(host: str, port: int = 0) -> ListenAddress:
    return ListenAddress("tcp", host, port, "")


def unix(path: Path) -> ListenAddress:
    return ListenAddress("unix", "", 0, str(path))


def close(listener: Listener) -> None:
    listener.close()
    listener.remove()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address(host: str) -> None:
    listener = bind(tcp(host))
    assert listener.bound[0] == host
    close(listener)


def test_a_name_is_its_ipv4_address_first() -> None:
    listener = bind(tcp("localhost"))
    assert listener.bound[0] == "127.0.0.1"
    close(listener)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_host_is_both_families(host: str) -> None:
    listener = bind(tcp(""))
    listener.listen()
    with socket.create_connection((host, int(listener.bound[1]))):
        pass
    close(listener)


def test_ipv6_alone_takes_no_ipv4() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # no other program listens there meanwhile, nor does this one
        port = held.getsockname()[1]
        listener = bind(tcp("::", port))
        listener.listen()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        close(listener)


def test_it_refuses_connections_until_it_listens() -> None:
    listener = bind(tcp("127.0.0.1"))
    assert isinstance(listener.bound, tuple)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.bound)
    listener.listen()
    socket.create_connection(listener.bound).close()
    close(listener)


@pytest.mark.parametrize("option", [0, socket.SO_REUSEPORT])
def test_an_address_that_is_held_is_refused(option: int) -> None:
    with socket.socket() as other:
        if option:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(
            StartError, match=r"^can't listen on 127.0.0.1:\d+: another process listens there"
        ):
            bind(tcp(*other.getsockname()))


def test_one_that_becomes_held_is_refused() -> None:
    """Two may bind with SO_REUSEADDR; the first to listen has it."""
    one = bind(tcp("127.0.0.1"))
    two = bind(tcp("127.0.0.1", int(one.bound[1])))
    two.listen()
    with pytest.raises(StartError, match="another process listens there"):
        one.listen()
    close(one)
    close(two)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartError, match="this machine has no such address"):
        bind(tcp("192.0.2.1", 80))


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(StartError, match="the name has no address"):
        bind(tcp("no-such-host.invalid", 80))


# Taking over a port from a listener of our own.


def test_a_wider_address_takes_over_from_ours() -> None:
    near = bind(tcp("127.0.0.1"))
    near.listen()
    wide = bind(tcp("", int(near.bound[1])), [near])
    wide.listen()
    for listener in (near, wide):
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    near.close()
    socket.create_connection(("127.0.0.1", int(wide.bound[1]))).close()
    wide.close()


def test_a_wider_address_is_refused_where_others_listen_too() -> None:
    near = bind(tcp("127.0.0.1"))
    near.listen()
    port = int(near.bound[1])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.2", port))
        other.listen()
        with pytest.raises(StartError, match="another process listens there"):
            bind(tcp("", port), [near])
    socket.create_connection(("127.0.0.1", port)).close()
    close(near)


# Unix sockets.


def test_the_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = bind(unix(path))
    assert listener.bound == str(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    close(listener)
    assert not path.exists()


def test_a_file_that_has_taken_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = bind(unix(path))
    path.unlink()
    other = bind(unix(path))
    close(listener)
    assert path.exists()
    close(other)


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind(unix(path)).close()
    assert path.exists()
    close(bind(unix(path)))


def test_a_socket_that_somebody_listens_on_is_refused(tmp_path: Path) -> None:
    other = bind(unix(tmp_path / "s"))
    with pytest.raises(StartError, match="another process listens there"):
        bind(unix(tmp_path / "s"))
    close(other)


def test_a_file_that_is_no_socket_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(StartError, match="is no socket"):
        bind(unix(path))
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"the folder {tmp_path}/none does not exist"):
        bind(unix(tmp_path / "none" / "s"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may everything")
def test_a_folder_that_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartError, match=f"permission denied in {tmp_path}"):
        bind(unix(tmp_path / "s"))
