"""The command ``portunus demo``; ``portunus serve`` has none of its routes."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection

START_TIMEOUT = 20.0  # seconds; measured 1.2 on an idle machine


@asynccontextmanager
async def portunus(*arguments: str) -> AsyncIterator[Process]:
    """Run a command of ``portunus`` as a process; kill it at the end."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT):
        return (await process.stdout.readline()).decode()


async def wait_ended(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(START_TIMEOUT):
        _, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, error.decode()


async def test_command_prints_the_url_of_its_page_and_ends_on_a_signal() -> None:
    async with portunus("demo", "--port", "0") as process:
        words = (await read_line(process)).split()
        assert words[0] == "Open"
        assert words[1].startswith("http://127.0.0.1:")
        async with aiohttp.ClientSession() as client:
            async with client.get(words[1]) as response:
                assert response.status == 200
                assert "<title>Portunus" in await response.text()
            async with client.ws_connect(f"{words[1]}spreed") as connection:
                assert (await connection.receive_json())["type"] == "welcome"
        process.terminate()
        assert (await wait_ended(process))[0] == 0


async def test_https_has_a_certificate_whose_fingerprint_is_printed() -> None:
    async with portunus("demo", "--host", "127.0.0.2", "--https", "--port", "0") as process:
        url = (await read_line(process)).split()[1]
        assert url.startswith("https://127.0.0.2:")
        assert "Advanced" in await read_line(process)
        printed = (await read_line(process)).removeprefix("SHA-256 fingerprint: ").strip()
        trusted = aiohttp.Fingerprint(bytes.fromhex(printed.replace(":", "")))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as client:
            async with client.get(url) as response:
                assert "<title>Portunus" in await response.text()
            async with client.ws_connect(f"{url}spreed") as connection:
                assert (await connection.receive_json())["type"] == "welcome"
        process.terminate()
        assert (await wait_ended(process))[0] == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "a..b"])
async def test_https_for_what_no_browser_opens_is_an_error_in_one_sentence(host: str) -> None:
    async with portunus("demo", "--host", host, "--https") as process:
        status, error = await wait_ended(process)
    assert status == 1
    assert error.startswith(f"No certificate can be made for '{host}'")


async def test_port_in_use_is_an_error_that_suggests_another_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with portunus("demo", "--port", str(port)) as process:
            status, error = await wait_ended(process)
    assert status == 1
    assert f"Port {port} on 127.0.0.1 is in use" in error
    assert "make demo PORT=" in error


async def test_address_of_another_machine_is_an_error_in_one_sentence() -> None:
    async with portunus("demo", "--host", "203.0.113.1", "--port", "0") as process:
        status, error = await wait_ended(process)
    assert status == 1
    assert error.strip().splitlines()[-1] == "Cannot listen on 203.0.113.1, port 0: Cannot assign requested address."


async def test_address_beyond_loopback_prints_where_cameras_are_allowed() -> None:
    async with portunus("demo", "--host", "0.0.0.0", "--port", "0") as process:
        assert "http://127.0.0.1:" in await read_line(process)
        assert "only on https or localhost" in await read_line(process)


@pytest.mark.parametrize("path", ["/", "/demo/main.js", "/demo/style.css"])
async def test_gateway_without_the_demo_has_no_page(path: str) -> None:
    gateway = Gateway(Config(sessions=SessionsSection(secret="d7" * 32), http=HttpSection(listen=("127.0.0.1:0",))))
    (url,) = await gateway.start()
    try:
        async with aiohttp.ClientSession() as client:
            async with client.get(url + path) as response:
                assert response.status == 404
            async with client.post(f"{url}/demo/api/join", json={}) as response:
                assert response.status == 404
    finally:
        await gateway.stop()
