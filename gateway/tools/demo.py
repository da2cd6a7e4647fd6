"""``portunus demo``: a gateway with the in-process SFU, the demo backend and the call page."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path

import click
import uvloop

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.demo_backend import DemoBackend
from gateway.tools.demo_certificate import DemoCertificate
from gateway.tools.demo_page import page_routes
from mcu import factory

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # of a listener on all addresses


class Demo:
    """A gateway and its demo backend.

    ``mcu``: the settings of the SFU, by default of the in-process SFU. ``https``: serve TLS with a self-signed
    certificate for ``host``, which is the address or name that browsers open.
    """

    def __init__(self, host: str, port: int, mcu: McuSection | None = None, *, https: bool = False) -> None:
        """Keep the settings, and make the certificate.

        Raises:
            ValueError: there is no certificate for ``host``.
        """
        self.certificate = _certificate(host) if https else None
        self._host = host
        self._port = port
        self._mcu = mcu or _inprocess_section()
        self._sessions = SessionsSection(secret=secrets.token_hex(32))
        self._backend = DemoBackend()
        self._gateway: Gateway | None = None

    @property
    def url(self) -> str:
        """The URL of the page on this machine, with ``https`` that on other devices."""
        host = _LOOPBACK.get(self._host, self._host)
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}/"

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
        with nullcontext() if self.certificate is None else self.certificate.files() as files:
            gateway = self._create_gateway(self._config(files))
            addresses = await gateway.start()
        self._gateway = gateway
        self._port = int(addresses[0].rstrip("/").rpartition(":")[2])
        self._backend.attach(self.url, None if self.certificate is None else self.certificate.client_context())

    async def stop_gateway(self) -> None:
        """Stop only the gateway. Idempotent."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await gateway.stop()

    async def stop(self) -> None:
        """Stop gateway and backend. Idempotent."""
        await self.stop_gateway()
        await self._backend.stop()

    def _create_gateway(self, config: Config) -> Gateway:
        return Gateway(config, routes=page_routes(self._backend))

    def _config(self, files: tuple[Path, Path] | None = None) -> Config:
        """Return the configuration; ``files`` are certificate and key."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        if files and not _is_address(host):
            host = "0.0.0.0"  # this machine may know its own name as 127.0.1.1
        certificate, key = map(str, files or ("", ""))
        return Config(
            sessions=self._sessions,
            http=HttpSection(listen=(f"{host}:{self._port}",), certificate=certificate, key=key),
            backends=(self._backend.backend,),
            mcu=self._mcu,
        )


def run(host: str, port: int, *, https: bool = False) -> int:
    """Serve the demo until SIGINT or SIGTERM; return the exit code."""
    try:
        demo = Demo(host, port, https=https)
    except ValueError:
        click.echo(f"No certificate can be made for {host!r}: name an address of this machine, or its name.", err=True)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(demo, host, port))


async def _serve(demo: Demo, host: str, port: int) -> int:
    interrupted = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, interrupted.set)
    try:
        await demo.start()
    except OSError as error:
        click.echo(_listen_error(error, host, port), err=True)
        return 1
    try:
        _announce(demo, host)
        await interrupted.wait()
    finally:
        await demo.stop()
    return 0


def _announce(demo: Demo, host: str) -> None:
    if demo.certificate is not None:
        click.echo(
            f"Open {demo.url} on two devices, type the same room on both, and you are in a call. Ctrl+C ends it.\n"
            "Each browser warns once that it does not know the certificate, which was made now for this demo alone. "
            "Compare the fingerprint where the browser shows the certificate, then go on: in Chromium “Advanced” and "
            "“Proceed”, in Firefox “Advanced…” and “Accept the Risk and Continue”, in Safari “Show Details” and “visit "
            "this website”. Then it asks for camera and microphone.\n"
            f"SHA-256 fingerprint: {demo.certificate.fingerprint}"
        )
        return
    click.echo(f"Open {demo.url} in two tabs, type the same room in both, and you are in a call. Ctrl+C ends it.")
    if not _is_loopback(host):
        click.echo(
            "Other machines can reach this page. Browsers allow camera and microphone only on https or localhost: "
            "elsewhere participants send a generated picture. make demo HOST=… serves https."
        )


def _listen_error(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another program; choose another: make demo PORT={port + 1}"
    return f"Cannot listen on {host}, port {port}: {os.strerror(error.errno) if error.errno else error}."


def _inprocess_section() -> McuSection:
    """Return the settings of the in-process SFU on all addresses, because Firefox never connects to 127.0.0.1."""
    return McuSection(type="inprocess", settings=factory.settings_type("inprocess")())


def _certificate(host: str) -> DemoCertificate:
    if host in _LOOPBACK:
        raise ValueError(host)  # browsers open no such address
    return DemoCertificate(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
