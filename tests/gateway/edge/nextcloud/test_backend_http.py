"""The HTTP client for backends: connections that are kept, limited and closed. Source: reference 3.7."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.edge.nextcloud import backend_http
from gateway.edge.nextcloud.backend_connection import Reply, RequestFailed
from gateway.edge.nextcloud.backend_http import BackendHttp
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.nextcloud.scripted_backend import (
    WAIT_TIMEOUT,
    AcceptedConnection,
    ScriptedBackend,
    answer,
    scripted_backend,
)


@pytest.fixture
async def http() -> AsyncIterator[BackendHttp]:
    async with BackendHttp(timeout=WAIT_TIMEOUT) as made:
        yield made


async def post(http: BackendHttp, url: str, body: bytes = b"{}") -> Reply:
    return await http.request("POST", url, {}, body)


async def failure(http: BackendHttp, url: str) -> str:
    """Return the label of the error of a request."""
    with pytest.raises(RequestFailed) as caught:
        await post(http, url)
    return caught.value.label


async def answer_each(connection: AcceptedConnection) -> None:
    """Answer each request with the number of its connection."""
    while await connection.receive():
        await connection.send(answer(b"%d" % connection.number))
    connection.ended.set()


async def test_request_is_written_as_http_1_1_says(http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        while request := await connection.receive():
            backend.record(request)
            await connection.send(answer())

    async with scripted_backend(script) as backend:
        await http.request("POST", f"{backend.url}/a b?c=d%20e#f", {"X-Name": "Jörg"}, b"body")
        await http.request("GET", backend.url, {})
    host = f"Host: 127.0.0.1:{backend.port}\r\n"
    assert [request.decode() for request in backend.requests] == [
        f"POST /cloud/a%20b?c=d%20e HTTP/1.1\r\n{host}X-Name: Jörg\r\nAccept-Encoding: gzip, deflate\r\n"
        "Content-Length: 4\r\n\r\nbody",
        f"GET /cloud HTTP/1.1\r\n{host}Accept-Encoding: gzip, deflate\r\n\r\n",
    ]


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b"])
async def test_header_with_a_line_end_is_not_sent(http: BackendHttp, value: str) -> None:
    async with scripted_backend(answer_each) as backend:
        with pytest.raises(RequestFailed):
            await http.request("GET", backend.url, {"If-None-Match": value})
        assert backend.connections == []


@pytest.mark.parametrize(
    "url",
    [
        *("", "/path", "ftp://127.0.0.1/", "http://", "http://[::1/", "http://127.0.0.1:99999/"),
        *("http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1.0/", "http://[::1%25]/"),
    ],
)
async def test_url_without_a_usable_host_is_an_error(http: BackendHttp, url: str) -> None:
    assert await failure(http, url) == "unknown"
    assert http.connections() == {}


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "path"),
    [
        ("http://cloud.example.com", "cloud.example.com", 80, "cloud.example.com", "/"),
        ("https://cloud.example.com:443/a", "cloud.example.com", 443, "cloud.example.com", "/a"),
        ("https://cloud.example.com:8443/a", "cloud.example.com", 8443, "cloud.example.com:8443", "/a"),
        ("http://[::1]:8080/a", "::1", 8080, "[::1]:8080", "/a"),
        ("http://[::1]/", "::1", 80, "[::1]", "/"),
        ("https://wölke.example/", "xn--wlke-5qa.example", 443, "xn--wlke-5qa.example", "/"),
    ],
)
def test_url_is_split_into_host_port_and_path(url: str, host: str, port: int, authority: str, path: str) -> None:
    target = backend_http._target(url)
    assert (target.server.host, target.server.port, target.authority, target.path) == (host, port, authority, path)
    assert target.server.secure == url.startswith("https:")


async def test_connection_is_reused_until_the_backend_says_close(http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        for last in (False, True):
            await connection.receive()
            await connection.send(answer(b"%d" % connection.number, *(["Connection: close"] if last else [])))
        await connection.wait_closed()

    async with scripted_backend(script) as backend:
        assert [(await post(http, backend.url)).body for _ in range(5)] == [b"1", b"1", b"2", b"2", b"3"]


async def test_http_1_0_answer_ends_with_the_connection(http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n%d" % connection.number)

    async with scripted_backend(script) as backend:
        assert [(await post(http, backend.url)).body for _ in range(2)] == [b"1", b"2"]
    assert http.connections() == {}


# reference 3.7-j
@pytest.mark.parametrize("reset", [False, True])
async def test_request_on_a_kept_connection_that_ends_without_a_byte_is_repeated_once(
    http: BackendHttp, reset: bool
) -> None:
    async def script(connection: AcceptedConnection) -> None:
        backend.record(await connection.receive())
        await connection.send(answer(b"%d" % connection.number))
        backend.record(await connection.receive())
        if reset:
            connection.writer.transport.abort()

    async with scripted_backend(script) as backend:
        assert [(await post(http, backend.url, b"%d" % n)).body for n in range(3)] == [b"1", b"2", b"3"]
    sent = [request[-1:] for request in backend.requests if request]
    assert sent == [b"0", b"1", b"1", b"2", b"2"]


# reference 3.7-j
async def test_request_is_not_repeated_on_a_new_connection(http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        backend.record(await connection.receive())

    async with scripted_backend(script) as backend:
        assert await failure(http, backend.url) == "unknown"
        assert len(backend.requests) == 1
    assert http.connections() == {}


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", answer(b"{}")[:-1]])
async def test_request_is_not_repeated_after_a_part_of_an_answer(http: BackendHttp, part: bytes) -> None:
    async def script(connection: AcceptedConnection) -> None:
        backend.record(await connection.receive())
        await connection.send(answer())
        backend.record(await connection.receive())
        await connection.send(part)

    async with scripted_backend(script) as backend:
        await post(http, backend.url)
        await failure(http, backend.url)
        assert len(backend.requests) == 2


async def test_cancelled_request_closes_its_connection(http: BackendHttp) -> None:
    answer_begun = asyncio.Event()

    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        if connection.number == 1:
            await connection.send(answer(b"secret of another")[:-3])
            answer_begun.set()
            await connection.wait_closed()
        else:
            await connection.send(answer(b"mine"))
            await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        task = asyncio.create_task(post(http, backend.url))
        await answer_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.connections[0].ended.wait()
        assert (await post(http, backend.url)).body == b"mine"
        assert list(http.connections().values()) == [1]


async def test_cancelled_requests_make_room_for_others_to_the_host() -> None:
    async def script(connection: AcceptedConnection) -> None:
        while request := await connection.receive():
            backend.record(request)
            if gate.is_set():
                await connection.send(answer())

    gate = asyncio.Event()
    async with (
        scripted_backend(script) as backend,
        BackendHttp(WAIT_TIMEOUT, connections_per_host=2) as http,
        asyncio.timeout(WAIT_TIMEOUT),
    ):
        for step in (1, -1, 1):
            tasks = [asyncio.create_task(post(http, backend.url)) for _ in range(5)]
            await backend.wait_for_requests(len(backend.requests) + 2)
            for task in tasks[::step]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert http.connections() == {}
        gate.set()
        await asyncio.gather(*(post(http, backend.url) for _ in range(5)))
        assert list(http.connections().values()) == [2]


async def test_close_ends_running_and_waiting_requests_and_all_connections() -> None:
    async def script(connection: AcceptedConnection) -> None:
        backend.record(await connection.receive())
        if connection.number == 1:
            await connection.send(answer())
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        http = BackendHttp(WAIT_TIMEOUT, connections_per_host=3)
        await post(http, backend.url)
        tasks = [asyncio.create_task(post(http, backend.url)) for _ in range(6)]
        await backend.wait_for_requests(3)
        assert list(http.connections().values()) == [3]
        await http.close()
        assert http.connections() == {}
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, RequestFailed) for outcome in outcomes)
        for connection in backend.connections:
            await connection.ended.wait()
        assert len(backend.connections) == 3
        await http.close()


async def test_close_during_the_tls_handshake_leaves_no_connection() -> None:
    async def script(connection: AcceptedConnection) -> None:
        backend.record(await connection.reader.read(5))
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        http = BackendHttp(WAIT_TIMEOUT)
        task = asyncio.create_task(post(http, backend.url.replace("http:", "https:")))
        await backend.wait_for_requests(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await http.close()
        await backend.connections[0].ended.wait()


async def test_host_without_connections_is_forgotten(http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(answer(b"{}", "Connection: close"))
        await connection.wait_closed()

    async with scripted_backend(script) as backend:
        await post(http, backend.url)
    await failure(http, backend.url)
    assert http._origins == {}


async def test_idle_connections_are_closed(http: BackendHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_http.KEEPALIVE == 4.0
    monkeypatch.setattr(backend_http, "KEEPALIVE", 0.1)
    async with scripted_backend(answer_each) as backend, asyncio.timeout(WAIT_TIMEOUT):
        await asyncio.gather(*(post(http, backend.url) for _ in range(3)))
        await post(http, backend.url)
        for connection in backend.connections:
            await connection.ended.wait()
        assert http.connections() == {}
        assert http._origins == {}
        count = len(backend.connections)
        assert (await post(http, backend.url)).body == b"%d" % (count + 1)


async def test_connection_that_was_idle_for_too_long_is_not_used(
    http: BackendHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_backend(answer_each) as backend, asyncio.timeout(WAIT_TIMEOUT):
        assert [(await post(http, backend.url)).body for _ in range(2)] == [b"1", b"1"]
        monkeypatch.setattr(backend_http, "KEEPALIVE", 0.0)  # the timer was set with the old value, and is not due
        assert (await post(http, backend.url)).body == b"2"
        await backend.connections[0].ended.wait()


# --- TLS


@pytest.fixture
def trusted_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the context of a server for ``localhost`` whose certificate this process trusts."""
    certificate, key = make_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    backend_http._tls.cache_clear()
    return context


@pytest.fixture(autouse=True)
def _clear_tls_cache() -> Iterator[None]:
    backend_http._tls.cache_clear()
    yield
    backend_http._tls.cache_clear()


def localhost_url(backend: ScriptedBackend) -> str:
    return f"https://localhost:{backend.port}/"


async def test_server_name_and_protocol_are_sent_in_the_tls_handshake(
    http: BackendHttp, trusted_context: ssl.SSLContext
) -> None:
    names: list[str | None] = []
    trusted_context.sni_callback = lambda _, name, __: names.append(name)
    trusted_context.set_alpn_protocols(["h2", "http/1.1"])

    async def script(connection: AcceptedConnection) -> None:
        chosen = connection.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        while await connection.receive():
            await connection.send(answer(chosen.encode()))

    async with scripted_backend(script, trusted_context) as backend:
        assert (await post(http, localhost_url(backend))).body == b"http/1.1"
        assert (await post(http, localhost_url(backend))).body == b"http/1.1"
        await http.close()
    assert names == ["localhost"]


async def test_certificate_for_another_host_is_refused(http: BackendHttp, trusted_context: ssl.SSLContext) -> None:
    async with scripted_backend(answer_each, trusted_context) as backend:
        assert await failure(http, f"https://127.0.0.2:{backend.port}/") == "unknown"
    assert http.connections() == {}


async def test_certificate_that_is_not_trusted_is_refused(
    http: BackendHttp, trusted_context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with scripted_backend(answer_each, trusted_context) as backend:
        assert await failure(http, localhost_url(backend)) == "unknown"
        assert backend.requests == []


async def test_http_on_a_tls_port_and_tls_on_an_http_port_are_errors(
    http: BackendHttp, trusted_context: ssl.SSLContext
) -> None:
    async with scripted_backend(answer_each, trusted_context) as backend:
        assert await failure(http, backend.url.replace("https:", "http:")) == "unknown"

    async def script(connection: AcceptedConnection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await connection.wait_closed()

    async with scripted_backend(script) as backend:
        assert await failure(http, backend.url.replace("http:", "https:")) == "unknown"
