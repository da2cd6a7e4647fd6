"""``portunus demo``: a gateway with the in-process SFU, the demo backend and the call page."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
from ipaddress import ip_address

import click
import uvloop

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.demo_backend import DemoBackend
from gateway.tools.demo_page import page_routes
from mcu import factory

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # of a listener on all addresses


class Demo:
    """A gateway and its demo backend; ``mcu`` are the settings of the SFU, by default of the in-process SFU."""

    def __init__(self, host: str, port: int, mcu: McuSection | None = None) -> None:
        self._host = host
        self._port = port
        self._mcu = mcu or _inprocess_section()
        self._sessions = SessionsSection(secret=secrets.token_hex(32))
        self._backend = DemoBackend()
        self._gateway: Gateway | None = None

    @property
    def url(self) -> str:
        """The URL of the page on this machine."""
        host = _LOOPBACK.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/"

    async def start(self) -> None:
        """Start backend and gateway; afterwards the page can be opened.

        Raises:
            OSError: the gateway cannot listen on the address.
        """
        await self._backend.start()
        try:
            await self.start_gateway()
        except BaseException:
            await self._backend.stop()
            raise

    async def start_gateway(self) -> None:
        """Start only the gateway; when started again it has the same port."""
        gateway = Gateway(self._config(), routes=page_routes(self._backend))
        addresses = await gateway.start()
        self._gateway = gateway
        self._port = int(addresses[0].rstrip("/").rpartition(":")[2])
        self._backend.attach(self.url)

    async def stop_gateway(self) -> None:
        """Stop only the gateway. Idempotent."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await gateway.stop()

    async def stop(self) -> None:
        """Stop gateway and backend. Idempotent."""
        await self.stop_gateway()
        await self._backend.stop()

    def _config(self) -> Config:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return Config(
            sessions=self._sessions,
            http=HttpSection(listen=(f"{host}:{self._port}",)),
            backends=(self._backend.backend,),
            mcu=self._mcu,
        )


def run(host: str, port: int) -> int:
    """Serve the demo until SIGINT or SIGTERM; return the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(host, port))


async def _serve(host: str, port: int) -> int:
    interrupted = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, interrupted.set)
    demo = Demo(host, port)
    try:
        await demo.start()
    except OSError as error:
        click.echo(_listen_error(error, host, port), err=True)
        return 1
    try:
        _announce(demo.url, host)
        await interrupted.wait()
    finally:
        await demo.stop()
    return 0


def _announce(url: str, host: str) -> None:
    click.echo(f"Open {url} in two tabs, type the same room in both, and you are in a call. Ctrl+C ends it.")
    if not _is_loopback(host):
        click.echo(
            "Other machines can reach this page. Browsers allow camera and microphone only on https or localhost: "
            "elsewhere participants send a generated picture."
        )


def _listen_error(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another program; choose another: make demo PORT={port + 1}"
    return f"Cannot listen on {host}, port {port}: {os.strerror(error.errno) if error.errno else error}."


def _inprocess_section() -> McuSection:
    """Return the settings of the in-process SFU on all addresses, because Firefox never connects to 127.0.0.1."""
    return McuSection(type="inprocess", settings=factory.settings_type("inprocess")())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
