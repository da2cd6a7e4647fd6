"""``portunus serve``: runs a gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import click
import uvloop

from gateway.app import Gateway
from gateway.config import Config, ConfigError
from gateway.edge.http import passed_sockets
from gateway.edge.http.descriptors import raise_limit
from gateway.edge.operator.readiness import NO_SFU
from gateway.edge.service_manager import ServiceManager
from gateway.tools.examine import examine

END_TIME = 20.0  # seconds from the end of the drain until the process has ended, at most
EXIT_LIMIT = 3.0  # seconds from the end of the gateway until its process has ended
COLLECTION_THRESHOLDS = (5_000, 10, 400)  # of gc.set_threshold; the second one bounds the pause of a collection

log = logging.getLogger("portunus")


def run(config: Config, load: Callable[[], Config], path: Path) -> int:
    """Serve until SIGINT, or until the end of a drain that a signal or command has begun; return the exit code.

    ``load`` is called on SIGHUP and returns the configuration; ``path`` is that of its file.
    """
    raise_limit()
    try:
        sockets = passed_sockets.take(os.environ, os.getpid())
    except passed_sockets.PassedSocketError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    if sockets and config.test_controls:
        click.echo("Error: test_controls must be off if a service manager passes sockets: they may be public", err=True)
        return 1
    try:
        gateway = Gateway(config, passed_sockets=sockets, examine=lambda: examine(path))
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Service(gateway, load).run())
        _end_process_within(EXIT_LIMIT, code)
        return code


def _end_process_within(seconds: float, code: int) -> None:
    """End the process after ``seconds`` if it does not end by itself: a task or thread may not.

    Both the event loop and the interpreter wait for threads, such as one that waits for a name server.
    """

    def end() -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
        log.error("the process did not end within %g s, and is ended; its threads: %s", seconds, ", ".join(names))
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


class _Service:
    """A gateway under the control of signals and a service manager."""

    def __init__(self, gateway: Gateway, load: Callable[[], Config]) -> None:
        self._gateway = gateway
        self._load = load
        self._manager = ServiceManager(os.environ)
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._serving = ""

    async def run(self) -> int:
        """Start the gateway, print one line when it accepts connections, and stop it on a signal or after a drain."""
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            asyncio.get_running_loop().add_signal_handler(signal_number, self._signals.put_nowait, signal_number)
        try:
            urls = await self._gateway.start()
        except OSError as error:
            where = f" on {error.filename}" if error.filename else ""
            click.echo(f"Error: cannot listen{where}: {error.strerror or error}", err=True)
            return 1
        if self._gateway.mcu is None:
            log.warning("%s", NO_SFU)
        _collect_less_garbage()
        self._serving = f"listens on {', '.join(urls)}"
        click.echo(f"portunus {self._serving}")
        self._manager.ready(self._serving)
        await self._wait_for_end()
        return 0

    async def _wait_for_end(self) -> None:
        """Handle signals and inform the service manager until the process has to end; then stop the gateway."""
        status = asyncio.create_task(self._manager.watch(self._status), name="status")
        handling = asyncio.create_task(self._handle_signals(), name="signals")
        drained = asyncio.create_task(self._gateway.draining.over.wait(), name="drained")
        done, _ = await asyncio.wait((handling, drained), return_when=asyncio.FIRST_COMPLETED)
        for task in (status, handling, drained):
            task.cancel()
        self._manager.stopping()
        await self._gateway.stop()
        if handling in done:
            handling.result()  # raises the exception of ``_handle_signals``, if any

    async def _handle_signals(self) -> None:
        """Handle signals until SIGINT; SIGTERM and SIGUSR1 end the process through ``gateway.draining.over``."""
        gateway = self._gateway
        while (received := await self._signals.get()) != signal.SIGINT:
            match received:
                case signal.SIGHUP:
                    self._manager.reloading()
                    await reload(gateway, self._load)
                    self._manager.ready(self._status())
                case signal.SIGTERM:
                    self._manager.extend_time_limit(gateway.drain_deadline + END_TIME)
                    gateway.draining.end(gateway.drain_deadline)
                case signal.SIGUSR1:
                    await gateway.stop_listening()
                    gateway.draining.begin_until_last_session()

    def _status(self) -> str:
        return self._gateway.draining.progress() or self._serving


def _collect_less_garbage() -> None:
    """Exempt the objects that exist after the start from garbage collection, and collect less often.

    Nearly all objects are freed by their reference counts. A collection visits every session and connection, and the
    event loop stands still meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


async def reload(gateway: Gateway, load: Callable[[], Config]) -> None:
    """Load the configuration again and apply it, or log why it cannot be used."""
    try:
        keys = await gateway.reload(load())
    except (ConfigError, ValueError, OSError) as error:
        log.error("the configuration was not changed: %s", error)
        return
    log.info("the configuration was reloaded")
    if keys:
        log.warning("a restart is needed for: %s", ", ".join(keys))
