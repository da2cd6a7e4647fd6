"""TLS records without content: only so many are processed, and content of any size is never limited."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest

from gateway.edge.http import tls, tls_overhead
from gateway.edge.http.tls_overhead import PERIOD, LimitedConnection, TooMuchOverhead
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.http.tls_keys import APPLICATION_DATA, HANDSHAKE, KEY_UPDATE, TrafficKeys, read_secret

Pair = tuple[LimitedConnection, ssl.MemoryBIO, TrafficKeys]


ALLOWANCE = 8192  # octets


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Return a server's connection, its input, and the keys of its client, after the handshake."""
    monkeypatch.setattr(tls_overhead, "ALLOWANCE", ALLOWANCE)
    certificate, key = make_certificate(tmp_path)
    server_context = tls.create_context(str(certificate), str(key))
    client_context = ssl.create_default_context(cafile=str(certificate))
    client_context.check_hostname = False
    client_context.keylog_filename = str(tmp_path / "keys")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname="gateway.example")
    for connection in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.do_handshake()
    assert isinstance(server, LimitedConnection)
    return server, to_server, TrafficKeys(read_secret(tmp_path / "keys"))


def updates(keys: TrafficKeys, count: int, content: bytes = b"") -> bytes:
    """Return updates of the keys, each followed by a record with content, if any."""
    records = []
    for _ in range(count):
        records.append(keys.seal(HANDSHAKE, KEY_UPDATE))
        keys.update()
        if content:
            records.append(keys.seal(APPLICATION_DATA, content))
    return b"".join(records)


def read_all(server: LimitedConnection) -> bytes:
    """Read until there is no more."""
    content = b""
    while True:
        try:
            content += server.read(65_536)
        except ssl.SSLWantReadError:
            return content


@pytest.mark.parametrize("content", [b"", b"x"], ids=["alone", "between short contents"])
@pytest.mark.parametrize("at_once", [1, 200])
def test_updates_of_keys_end_the_connection(pair: Pair, content: bytes, at_once: int) -> None:
    server, incoming, keys = pair

    def flood() -> None:
        for _ in range(1000 // at_once):
            incoming.write(updates(keys, at_once, content))
            read_all(server)

    with pytest.raises(TooMuchOverhead):
        flood()


def test_a_few_updates_are_allowed_and_a_few_more_later(pair: Pair) -> None:
    server, incoming, keys = pair
    few = ALLOWANCE // 27 - 10
    incoming.write(updates(keys, few) + keys.seal(APPLICATION_DATA, b"content"))
    assert read_all(server) == b"content"
    later = server.clock() + PERIOD
    server.clock = lambda: later
    incoming.write(updates(keys, few) + keys.seal(APPLICATION_DATA, b"later"))
    assert read_all(server) == b"later"


@pytest.mark.parametrize(("size", "piece"), [(1, 1), (1, 7), (100, 50), (16_384, 1448), (16_384, 1 << 20)])
def test_content_is_not_limited_however_it_arrives(pair: Pair, size: int, piece: int) -> None:
    server, incoming, keys = pair
    count = 1000 if size == 1 else 100
    octets = b"".join(keys.seal(APPLICATION_DATA, b"x" * size) for _ in range(count))
    read = 0
    for at in range(0, len(octets), piece):
        incoming.write(octets[at : at + piece])
        while incoming.pending or server.pending():  # as uvloop reads
            try:
                read += len(server.read(65_536))
            except ssl.SSLWantReadError:
                break
    assert read == count * size
