"""Sockets that a service manager passes: taken from the environment, checked, and compared with ``http.listen``."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gateway.edge.http.passed_sockets import PassedSocketError, covers, take

PROCESS = 4711
FIRST = 500  # a descriptor that no other part of the test process uses


def announced(count: str = "1", process: int = PROCESS, names: str = "http") -> dict[str, str]:
    return {"LISTEN_PID": str(process), "LISTEN_FDS": count, "LISTEN_FDNAMES": names, "LANG": "C"}


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def pass_socket(sock: socket.socket, index: int = 0) -> None:
    """Copy a socket to a descriptor that a child process would inherit."""
    os.dup2(sock.fileno(), FIRST + index)


def test_socket_is_taken_and_neither_it_nor_its_variables_are_inherited(listening: socket.socket) -> None:
    pass_socket(listening)
    environ = announced()
    (taken,) = take(environ, PROCESS, FIRST)
    with taken:
        assert (taken.fileno(), taken.getsockname()) == (FIRST, listening.getsockname())
        assert (taken.getblocking(), os.get_inheritable(FIRST)) == (False, False)
    assert environ == {"LANG": "C"}


@pytest.mark.parametrize("environ", [{"LANG": "C"}, announced(process=1), {"LISTEN_PID": str(PROCESS)}])
def test_sockets_of_another_process_are_not_taken(environ: dict[str, str]) -> None:
    assert take(environ, PROCESS, FIRST) == []
    assert not environ.keys() & {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}


@pytest.mark.parametrize("count", ["-1", "some", "99999999999"])
def test_invalid_count_of_descriptors_is_refused(count: str) -> None:
    with pytest.raises(PassedSocketError, match="LISTEN_FDS is no number of descriptors"):
        take(announced(count), PROCESS, FIRST)


def test_descriptor_that_is_missing_or_does_not_listen_is_named(listening: socket.socket) -> None:
    with pytest.raises(PassedSocketError, match=rf"descriptor {FIRST} \(http\) .* is not a socket"):
        take(announced(), PROCESS, FIRST)
    with socket.create_connection(listening.getsockname()) as connected, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for sock in (connected, udp):
            pass_socket(listening)
            pass_socket(sock, 1)
            with pytest.raises(PassedSocketError, match=rf"descriptor {FIRST + 1} \(without a name\) .* Accept=no"):
                take(announced("2"), PROCESS, FIRST)


@pytest.mark.parametrize(
    ("bound", "address", "result"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
        ("::", "127.0.0.1", False),
        ("both", "127.0.0.1", True),
        ("both", "0.0.0.0", True),
    ],
)
def test_socket_covers_its_own_address_and_as_a_wildcard_all(bound: str, address: str, result: bool) -> None:
    family = socket.AF_INET6 if bound in ("::", "both") else socket.AF_INET
    host = "::" if bound == "both" else bound
    with socket.create_server((host, 0), family=family, dualstack_ipv6=bound == "both") as sock:
        port = sock.getsockname()[1]
        assert covers(sock, (address, port)) is result
        assert not covers(sock, (address, port % 65535 + 1))
