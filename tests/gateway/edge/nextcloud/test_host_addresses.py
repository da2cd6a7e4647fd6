"""Addresses of the backends' hosts: their cache, and name servers that do not answer."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

from gateway.edge.nextcloud import host_addresses
from gateway.edge.nextcloud.backend_connection import RequestFailed
from gateway.edge.nextcloud.backend_http import BackendHttp
from gateway.edge.nextcloud.host_addresses import HostAddresses
from tests.gateway.edge.nextcloud.scripted_backend import WAIT_TIMEOUT, AcceptedConnection, answer, scripted_backend

URL = "https://cloud.example/"
FOUND_ADDRESSES = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class HangingNameServer:
    """Replacement of the loop's ``getaddrinfo``, whose lookups wait for ``result``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Any] = loop.create_future()
        self.lookups = 0
        self.lookup_begun = asyncio.Event()
        monkeypatch.setattr(loop, "getaddrinfo", self._look_up)

    async def _look_up(self, host: str, port: int, **options: int) -> Any:
        self.lookups += 1
        self.lookup_begun.set()
        return await asyncio.shield(self.result)


@pytest.fixture
async def hanging_name_server(monkeypatch: pytest.MonkeyPatch) -> HangingNameServer:
    return HangingNameServer(monkeypatch)


async def test_ip_address_is_used_without_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    hosts = HostAddresses()
    assert [info[::4] for info in await hosts.resolve("::1", 80)] == [(socket.AF_INET6, ("::1", 80, 0, 0))]
    assert [info[::4] for info in await hosts.resolve("192.0.2.1", 80)] == [(socket.AF_INET, ("192.0.2.1", 80))]


async def test_addresses_of_a_host_are_cached_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_addresses.ADDRESS_LIFETIME == 10.0
    loop = asyncio.get_running_loop()
    lookups: list[str] = []
    original = loop.getaddrinfo

    async def lookup(host: str, port: int, **options: int) -> Any:
        if host == "localhost":  # uvloop passes addresses through here as well
            lookups.append(host)
        return await original(host, port, **options)

    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(answer(b"{}", "Connection: close"))

    monkeypatch.setattr(loop, "getaddrinfo", lookup)
    async with scripted_backend(script) as backend, BackendHttp(timeout=WAIT_TIMEOUT) as http:
        url = backend.url.replace("127.0.0.1", "localhost")
        monkeypatch.setattr(host_addresses, "ADDRESS_LIFETIME", 10 * WAIT_TIMEOUT)
        for _ in range(3):
            await http.request("POST", url, {}, b"{}")
        assert lookups == ["localhost"]
        http._hosts._found.clear()
        monkeypatch.setattr(host_addresses, "ADDRESS_LIFETIME", 0.0)
        for _ in range(2):
            await http.request("POST", url, {}, b"{}")
        assert lookups == ["localhost"] * 3


async def test_requests_to_a_host_share_one_lookup_also_when_they_are_cancelled(
    hanging_name_server: HangingNameServer,
) -> None:
    """One lookup occupies one thread of the pool, in which the lookups for other backends run, too."""
    hosts = HostAddresses()
    first = [asyncio.create_task(hosts.resolve("cloud.example", 443)) for _ in range(8)]
    await hanging_name_server.lookup_begun.wait()
    for task in first:
        task.cancel()
    await asyncio.wait(first)
    later = [asyncio.create_task(hosts.resolve("cloud.example", 443)) for _ in range(8)]
    await asyncio.sleep(0)
    assert hanging_name_server.lookups == 1
    hanging_name_server.result.set_result(FOUND_ADDRESSES)
    assert [await task for task in later] == [FOUND_ADDRESSES] * 8
    assert all(task.cancelled() for task in first)
    assert await hosts.resolve("cloud.example", 443) == FOUND_ADDRESSES
    assert hanging_name_server.lookups == 1


async def test_failed_lookup_fails_all_waiting_requests_and_is_not_cached(
    hanging_name_server: HangingNameServer,
) -> None:
    hosts = HostAddresses()
    waiting = [asyncio.create_task(hosts.resolve("cloud.example", 443)) for _ in range(3)]
    await hanging_name_server.lookup_begun.wait()
    hanging_name_server.result.set_exception(socket.gaierror())
    assert [type(outcome) for outcome in await asyncio.gather(*waiting, return_exceptions=True)] == [
        socket.gaierror
    ] * 3
    with pytest.raises(socket.gaierror):
        await hosts.resolve("cloud.example", 443)
    assert hanging_name_server.lookups == 2


async def test_failed_lookup_without_a_waiting_request_is_not_logged(
    hanging_name_server: HangingNameServer, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = HostAddresses()
    waiting = asyncio.create_task(hosts.resolve("cloud.example", 443))
    await hanging_name_server.lookup_begun.wait()
    (lookup,) = hosts._lookups.values()
    waiting.cancel()
    await asyncio.wait([waiting])
    hanging_name_server.result.set_exception(socket.gaierror())
    await asyncio.wait([lookup])
    del lookup, waiting
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("has_begun", [True, False])
async def test_close_cancels_the_lookup_and_the_next_one_succeeds(
    hanging_name_server: HangingNameServer, has_begun: bool
) -> None:
    http = BackendHttp(timeout=WAIT_TIMEOUT)
    waiting = asyncio.create_task(http.request("GET", URL, {}))
    if has_begun:
        await hanging_name_server.lookup_begun.wait()
    else:
        while not http._hosts._lookups:  # noqa: ASYNC110 - the lookup must not have begun yet
            await asyncio.sleep(0)
    await http.close()
    with pytest.raises(RequestFailed):
        await waiting
    hanging_name_server.result.set_result(FOUND_ADDRESSES)
    assert await http._hosts.resolve("cloud.example", 443) == FOUND_ADDRESSES
    assert hanging_name_server.lookups == 1 + has_begun
