"""``portunus serve``: runs a gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable

import click
import uvloop

from gateway.app import Gateway
from gateway.config import Config, ConfigError
from gateway.edge.http.descriptors import raise_limit
from gateway.edge.operator.readiness import NO_SFU

COLLECTION_THRESHOLDS = (5_000, 10, 400)  # of gc.set_threshold; the second one bounds the pause of a collection

log = logging.getLogger("portunus")


def run(config: Config, load: Callable[[], Config]) -> int:
    """Serve until SIGINT, or until the end of a drain that a signal or command has begun; return the exit code.

    ``load`` is called on SIGHUP and returns the configuration.
    """
    raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(Gateway(config), load))


async def _serve(gateway: Gateway, load: Callable[[], Config]) -> int:
    """Start a gateway, print one line when it accepts connections, and stop it on a signal."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        asyncio.get_running_loop().add_signal_handler(signal_number, signals.put_nowait, signal_number)
    try:
        urls = await gateway.start()
    except OSError as error:
        where = f" on {error.filename}" if error.filename else ""
        click.echo(f"Error: cannot listen{where}: {error.strerror or error}", err=True)
        return 1
    if gateway.mcu is None:
        log.warning("%s", NO_SFU)
    _collect_less_garbage()
    click.echo(f"portunus listens on {', '.join(urls)}")
    handling = asyncio.create_task(_handle_signals(gateway, load, signals), name="signals")
    drained = asyncio.create_task(gateway.draining.over.wait(), name="drained")
    done, _ = await asyncio.wait((handling, drained), return_when=asyncio.FIRST_COMPLETED)
    handling.cancel()
    drained.cancel()
    await gateway.stop()
    if handling in done:
        handling.result()  # raises the exception of ``_handle_signals``, if any
    return 0


async def _handle_signals(gateway: Gateway, load: Callable[[], Config], signals: asyncio.Queue[int]) -> None:
    """Handle signals until SIGINT; SIGTERM and SIGUSR1 end the process through ``gateway.draining.over``."""
    while (received := await signals.get()) != signal.SIGINT:
        match received:
            case signal.SIGHUP:
                await _reload(gateway, load)
            case signal.SIGTERM:
                gateway.draining.end(gateway.drain_deadline)
            case signal.SIGUSR1:
                await gateway.stop_listening()
                gateway.draining.begin_until_last_session()


def _collect_less_garbage() -> None:
    """Exempt the objects that exist after the start from garbage collection, and collect less often.

    Nearly all objects are freed by their reference counts. A collection visits every session and connection, and the
    event loop stands still meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


async def _reload(gateway: Gateway, load: Callable[[], Config]) -> None:
    """Load the configuration again and apply it, unless it is invalid."""
    try:
        keys = await gateway.reload(load())
    except (ConfigError, ValueError, OSError) as error:
        log.error("the configuration was not changed: %s", error)
        return
    log.info("the configuration was reloaded")
    if keys:
        log.warning("a restart is needed for: %s", ", ".join(keys))
