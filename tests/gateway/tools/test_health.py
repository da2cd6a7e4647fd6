"""``portunus health`` against running gateways, and where there is none."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.app import Gateway
from gateway.cli import main
from gateway.tools.health import Unhealthy, check
from tests.gateway.certificates import make_certificate
from tests.gateway.test_app import config


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_gateway_that_answers_is_healthy(transport: str, encrypted: bool, tmp_path: Path) -> None:
    certificate, key = map(str, make_certificate(tmp_path)) if encrypted else ("", "")
    with socket.create_server(("127.0.0.1", 0)) as passed:
        entry = f"127.0.0.1:{passed.getsockname()[1]}" if transport == "tcp" else str(tmp_path / "http.sock")
        settings = config(entry, certificate=certificate, key=key)
        running = Gateway(settings, passed_sockets=[passed] if transport == "tcp" else [])
        await running.start()
        try:
            assert await asyncio.to_thread(check, settings) == entry
        finally:
            await running.stop()
    with pytest.raises(Unhealthy, match=f"no gateway answers on {entry}: "):
        check(settings)


async def test_other_server_is_unhealthy() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        entry = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Unhealthy, match=f"/healthz on {entry} answers with status 404"):
            await asyncio.to_thread(check, config(entry))


def test_command_ends_with_status_3_if_nothing_answers(tmp_path: Path) -> None:
    secret = "6d1f0c7b2e9a4583b7c6d5e4f3a29180"
    text = f'secret = "{secret}"\n[[backend]]\nid = "cloud"\nurls = ["https://cloud.invalid/"]\nsecret = "{secret}"\n'
    file = tmp_path / "portunus.toml"
    file.write_text(f'[http]\nlisten = ["{tmp_path}/none"]\n[sessions]\n{text}')
    done = CliRunner().invoke(main, ["health", "-c", str(file)])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == f"Error: no gateway answers on {tmp_path}/none: No such file or directory\n"
    file.write_text("")
    assert CliRunner().invoke(main, ["health", "-c", str(file)]).exit_code == 1
