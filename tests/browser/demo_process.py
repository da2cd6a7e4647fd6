"""A demo gateway in a process of its own, in front of a Janus: ``python -m tests.browser.demo_process URL``.

So a signal can stop the gateway while SFU and browsers continue.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from gateway.config import McuSection
from gateway.tools.demo import Demo
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET


async def serve(janus: str) -> None:
    """Serve until SIGTERM, after one line with the address of the page."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = JanusServerSettings(url=janus, api_secret=API_SECRET, admin_key=ADMIN_KEY)
    demo = Demo("127.0.0.1", 0, McuSection(type="janus", settings=(server,)))
    await demo.start()
    print(demo.url, flush=True)  # noqa: T201 - the test waits for this line
    await ended.wait()
    await demo.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
