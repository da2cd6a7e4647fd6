"""Debian's nginx, Apache and Caddy with the files of ``portunus config init``, as reverse proxies before a gateway.

Source: docs/install.md, "Behind a reverse proxy".
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection, StatsSection
from gateway.tools.configuration.init import Site, write_set
from tests.gateway.certificates import make_certificate, make_signed_certificate
from tests.ports import PortBlock, lease_block
from tests.programs import find_program, nginx_command, wait_until_listening

pytestmark = pytest.mark.full

DOMAIN = "signal.example.com"
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
OPERATOR, STRANGER = "127.0.0.2", "127.0.0.3"  # addresses of clients; the proxies connect from 127.0.0.1
LIMIT = 30.0  # seconds for a message
STANDARD_MODULES = ["mpm_event", "authn_core", "authz_core"]  # of those that Debian enables
# For each module that the file names those that a2enmod enables, with the modules on which it depends.
APACHE_MODULES = {"ssl": ["socache_shmcb", "ssl"], "proxy_http": ["proxy", "proxy_http"], "headers": ["headers"]}
APACHE = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
ServerName localhost
User www-data
Group www-data
{modules}
Listen 127.0.0.1:{port}
Include {folder}/set/apache.conf
"""
CADDY = """
{{
    admin off
    default_bind 127.0.0.1
    http_port {http_port}
    https_port {port}
    auto_https disable_redirects
    local_certs
    skip_install_trust
    pki {{
        ca local {{
            root {{
                cert {authority}
                key {key}
            }}
        }}
    }}
}}
import {folder}/set/Caddyfile
"""


class LoopbackResolver(AbstractResolver):
    """Resolves each name to 127.0.0.1."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def ports() -> Iterator[PortBlock]:
    with lease_block() as block:
        yield block


@pytest.fixture
def authority(tmp_path: Path, ports: PortBlock) -> tuple[Path, Path]:
    """Write the set into ``set`` below the folder, with a certificate that the returned authority has signed."""
    (tmp_path / "authority").mkdir()
    signer = make_certificate(tmp_path / "authority")
    certificate, key = make_signed_certificate(tmp_path, DOMAIN, signer)
    site = Site(
        "https://cloud.example.com",
        DOMAIN,
        certificate=str(certificate),
        key=str(key),
        gateway_port=ports.first,
        https_port=ports.first + 1,
    )
    write_set(tmp_path / "set", site)
    return signer


@asynccontextmanager
async def running_gateway(port: int) -> AsyncIterator[None]:
    """Run a gateway that trusts the proxy, and shows its statistics to ``OPERATOR`` only."""
    gateway = Gateway(
        Config(
            sessions=SessionsSection(secret=SECRET),
            http=HttpSection(listen=(f"127.0.0.1:{port}",), trusted_proxies=("127.0.0.1",)),
            stats=StatsSection(allowed=(OPERATOR,)),
        )
    )
    await gateway.start()
    try:
        yield
    finally:
        await gateway.stop()


def proxy_command(name: str, folder: Path, authority: tuple[Path, Path], ports: PortBlock) -> tuple[str, ...]:
    """Write the main configuration of a proxy, which includes its file of the set, and return the command to run it."""
    port = ports.first + 1
    if name == "nginx":
        return nginx_command(folder, f"include {folder}/set/nginx.conf;")
    if name == "apache":
        (named,) = re.findall(r"a2enmod (.*)$", (folder / "set" / "apache.conf").read_text(), re.M)
        modules = STANDARD_MODULES + [module for key in named.split() for module in APACHE_MODULES[key]]
        lines = "\n".join(f"LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so" for module in modules)
        (folder / "apache.conf").write_text(APACHE.format(folder=folder, modules=lines, port=port))
        return find_program("apache2", "apache2-bin"), "-D", "FOREGROUND", "-f", str(folder / "apache.conf")
    certificate, key = authority
    caddyfile = CADDY.format(folder=folder, port=port, http_port=port + 1, authority=certificate, key=key)
    (folder / "Caddyfile").write_text(caddyfile)
    return find_program("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")


@asynccontextmanager
async def running_proxy(command: tuple[str, ...], folder: Path, port: int) -> AsyncIterator[None]:
    """Run a proxy until the context ends; wait until it accepts connections."""
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    with (folder / "proxy.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, env=os.environ | home)
    try:
        await wait_until_listening("127.0.0.1", port)
        yield
    except TimeoutError as error:
        error.add_note((folder / "proxy.log").read_text()[-3000:])
        raise
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), LIMIT)


@asynccontextmanager
async def client(address: str, authority: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield an HTTP client at an address, which trusts the authority and no other."""
    trusted = ssl.create_default_context(cafile=str(authority))
    connector = aiohttp.TCPConnector(ssl=trusted, resolver=LoopbackResolver(), local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.mark.parametrize("name", ["nginx", "apache", "caddy"])
async def test_clients_reach_the_gateway_through_the_proxy_with_their_addresses(
    name: str, tmp_path: Path, authority: tuple[Path, Path], ports: PortBlock
) -> None:
    command = proxy_command(name, tmp_path, authority, ports)
    base = f"https://{DOMAIN}:{ports.first + 1}/standalone-signaling"
    forged = {"X-Real-IP": OPERATOR, "X-Forwarded-For": OPERATOR}
    async with (
        running_gateway(ports.first),
        running_proxy(command, tmp_path, ports.first + 1),
        client(OPERATOR, authority[0]) as operator,
        client(STRANGER, authority[0]) as stranger,
    ):
        async with stranger.get(f"{base}/api/v1/welcome") as answer:
            assert (answer.status, (await answer.json())["nextcloud-spreed-signaling"]) == (200, "Welcome")
            assert "federation" in answer.headers["X-Spreed-Signaling-Features"]
        async with operator.get(f"{base}/api/v1/stats") as answer:
            assert (answer.status, (await answer.json())["sessions"]) == (200, 0)
        for headers in ({}, forged):
            async with stranger.get(f"{base}/api/v1/stats", headers=headers) as answer:
                assert answer.status == 403
        async with stranger.ws_connect(f"{base}/spreed") as socket:
            assert (await socket.receive_json(timeout=LIMIT))["type"] == "welcome"
            await socket.send_str(json.dumps({"id": "1", "type": "hello", "hello": {"version": "0.1"}}))
            refused = await socket.receive_json(timeout=LIMIT)
            assert (refused["id"], refused["error"]["code"]) == ("1", "invalid_hello_version")
