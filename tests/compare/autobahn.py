"""Runs the Autobahn test suite against the gateway's WebSocket endpoint: ``python -m tests.compare.autobahn``.

``PORTUNUS_WSTEST`` is the command of the suite's ``wstest`` (PyPI's ``autobahntestsuite``, which needs Python 2.7). The
suite needs a server that echoes, which the dispatcher ``Echo`` does. The exit status is 1
when a case fails that is not among ``NOT_ECHOED``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import uvloop
from aiohttp import web

from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.clients.websocket_connection import WebSocketConnection
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.runner import ConnectionRules, HttpRunner
from gateway.limited_log import LimitedLog

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.1", "13.1.1"]
TIMEOUT = 500.0  # seconds
NOT_ECHOED = "1.2."  # the endpoint drops the content of binary messages
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}  # unimplemented: no compression


class Echo:
    """Dispatcher that echoes each text."""

    def admits(self, address: object) -> bool:
        return True

    would_admit = admits

    def opened(self, connection: Any) -> Any:
        return SimpleNamespace(connection=connection, session=object())

    def received(self, client: Any, text: str, size: int) -> None:
        client.connection.send(text.encode())

    def received_frame(self, client: Any, size: int) -> bool:
        return True

    def received_binary(self, client: Any) -> None:
        client.connection.send(b"binary")

    def closed(self, client: Any) -> None:
        return


async def main(wstest: list[str]) -> int:
    """Serve, run the suite, print the cases that did not pass strictly, and return the exit status."""
    # The suite would answer the first ping in the middle of a frame that it sends in pieces (6.4.3, 6.4.4).
    WebSocketConnection._next_ping = lambda self, now: b""  # type: ignore[method-assign]
    counters: Any = SimpleNamespace(messages_in=0, messages_out=0, bytes_in=0, bytes_out=0)
    counters.round_trip = SimpleNamespace(observe=lambda milliseconds: None)
    dispatcher: Any = Echo()
    endpoint = WebSocketEndpoint(dispatcher, counters, time.time, TrustedProxies(()), {})
    rules = ConnectionRules(
        headers={},
        timeout=lambda: 0.0,
        on_timeout=lambda: None,
        idle=IdleConnections(lambda: 0, lambda limit: None),
        reserve=DescriptorReserve(LimitedLog(logging.getLogger("autobahn"), time.monotonic)),
        upgrade=endpoint.upgrade,
    )
    app = web.Application()
    app.router.add_get("/", endpoint.handle, allow_head=False)
    runner = HttpRunner(app, rules, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with TemporaryDirectory() as folder:
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
        results = await _run(wstest, Path(folder), url)
    await runner.cleanup()
    return _report(results)


async def _run(wstest: list[str], folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """Run the suite and return the result of each case."""
    servers = [{"agent": "portunus", "url": url}]
    specification = {"outdir": str(folder), "servers": servers, "cases": CASES, "exclude-cases": []}
    file = folder / "specification.json"
    file.write_text(json.dumps(specification | {"exclude-agent-cases": {}}))
    command = (*wstest, "-m", "fuzzingclient", "-s", str(file))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, cwd=folder)
    try:
        async with asyncio.timeout(TIMEOUT):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    results: dict[str, dict[str, Any]] = json.loads((folder / "index.json").read_text())["portunus"]
    return results


def _report(results: dict[str, dict[str, Any]]) -> int:
    """Print the cases whose behaviour is not strictly the expected one, and return the exit status."""
    failed = False
    for case in sorted(results, key=lambda name: [int(part) for part in name.split(".")]):
        behavior = results[case]["behavior"]
        failed |= behavior not in PASSED and not case.startswith(NOT_ECHOED)
        if behavior != "OK":
            print(f"{case}: {behavior}, close code {results[case]['remoteCloseCode']}")  # noqa: T201
    print(dict(Counter(result["behavior"] for result in results.values())))  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        sys.exit(loop.run(main(shlex.split(os.environ["PORTUNUS_WSTEST"]))))
