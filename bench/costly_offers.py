"""``python -m bench.costly_offers``: the longest uninterrupted work of the event loop for costly descriptions.

A gateway and an SFU, the in-process one or (``--janus``) a real Janus, receive each offer of ``tests.sdp.costly`` from
a session of its own. Printed are, as CPU time, the longest single callback of the gateway's event loop, and the sum of
all callbacks until the reply. Other load of the machine does not count.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
import time
from asyncio.events import Handle
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import msgspec

from bench import report
from bench.sfu_host import config
from gateway.app import Gateway
from gateway.config import McuSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.janus.settings import JanusServerSettings
from tests.gateway.edge.raw_client import RawClient
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.sdp.costly import costly_offers

ROUNDS = 3  # of which the fastest counts: the first one fills caches of the interpreter
PREFERENCE = {"audiocodec": "pcmu,opus", "videocodec": "h264,vp8,vp9", "h264profile": "42e01f", "vp9profile": "0"}


@dataclass
class Callbacks:
    """CPU time of the callbacks of the gateway's event loop, in seconds, since the last ``reset``."""

    longest: float = 0.0
    sum: float = 0.0

    def reset(self) -> None:
        """Begin anew."""
        self.longest = self.sum = 0.0


@contextmanager
def measured_callbacks() -> Iterator[Callbacks]:
    """Measure the callbacks of this thread's event loop, which must be asyncio's own."""
    found, original, thread = Callbacks(), Handle._run, threading.get_ident()

    def run(handle: Handle) -> None:
        before = time.thread_time()
        original(handle)
        if threading.get_ident() == thread:
            spent = time.thread_time() - before
            found.longest, found.sum = max(found.longest, spent), found.sum + spent

    setattr(Handle, "_run", run)  # noqa: B010 - a method cannot be assigned
    try:
        yield found
    finally:
        setattr(Handle, "_run", original)  # noqa: B010 - a method cannot be assigned


async def offer_once(address: tuple[str, int], cloud: FakeNextcloud, sdp: str, callbacks: Callbacks) -> Callbacks:
    """Publish an offer in a session of its own and return the CPU time of the callbacks until its reply."""
    async with await RawClient.connect(address) as client:
        await client.receive()  # welcome
        auth = {"url": cloud.url, "params": cloud.ticket("anna")}
        client.send({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        session = (await client.receive())["hello"]["sessionid"]
        data = {
            "type": "offer",
            "sid": "1",
            "roomType": "video",
            "payload": {"type": "offer", "sdp": sdp},
            **PREFERENCE,
        }
        body = {"recipient": {"type": "session", "sessionid": session}, "data": data}
        callbacks.reset()
        client.send({"id": "o", "type": "message", "message": body})
        await client.receive()  # the answer or an error
        return Callbacks(callbacks.longest, callbacks.sum)


async def offer_all(address: tuple[str, int], secret: str, callbacks: Callbacks) -> None:
    """Send each offer and print its figures, the longest callback first."""
    rows = []
    async with FakeNextcloud(secret=secret) as cloud:
        for name, sdp in costly_offers().items():
            rounds = [await offer_once(address, cloud, sdp, callbacks) for _ in range(ROUNDS)]
            rows.append((min(one.longest for one in rounds), min(one.sum for one in rounds), name))
    for longest, total, name in sorted(rows, reverse=True):
        print(f"{longest * 1000:8.1f} ms {total * 1000:8.1f} ms  {name}")


async def measure(*, janus: bool) -> None:
    """Run a gateway in this thread, and the clients in another one."""
    async with AsyncExitStack() as stack:
        settings = config()
        if janus:
            process = await stack.enter_async_context(JanusProcess())
            server = JanusServerSettings(process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
            settings = msgspec.structs.replace(settings, mcu=McuSection(type="janus", settings=(server,)))
        gateway = Gateway(settings)
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        host, _, port = url.rpartition("/")[2].rpartition(":")
        while gateway.mcu is None or not gateway.mcu.status().ready:  # noqa: ASYNC110 - the benchmark has no events
            await asyncio.sleep(0.1)
        callbacks = stack.enter_context(measured_callbacks())
        secret = settings.nextcloud.secret
        await asyncio.to_thread(asyncio.run, offer_all((host, int(port)), secret, callbacks))


def main() -> None:
    """Measure with one SFU."""
    parser = argparse.ArgumentParser(prog="python -m bench.costly_offers", description=__doc__.split("\n")[0])
    parser.add_argument("--janus", action="store_true", help="with a real Janus instead of the in-process SFU")
    options = parser.parse_args()
    host = report.machine("")
    print(f"{host.cpu}, {host.cores} cores, {host.python}, load average {host.load_average:.2f}")
    print(" longest       sum")
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(measure(janus=options.janus))


if __name__ == "__main__":
    main()
