"""The step that opens a session: a real hello of an internal client."""

from __future__ import annotations

import secrets

import aiohttp

from gateway.tools.doctor.signaling import DRAIN_REMEDY
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok
from gateway.tools.doctor.target import Target
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.wire import checksum
from gateway.wire.errors import Code


async def open_session(target: Target, secret: str, backend: str) -> Outcome:
    """Open a session as an internal client, and end it; ``backend`` is the URL of a Nextcloud."""
    if not secret or not backend:
        return not_tried(
            "-c FILE, a configuration with a backend and internal.secret: the doctor is an internal client"
        )
    random = secrets.token_hex(32)
    params = {"random": random, "token": checksum.sign(secret, random, b""), "backend": backend}
    try:
        async with TalkClient(target.url, backend) as client:
            await client.hello_internal(params)
            await client.bye()
    except RequestRefused as error:
        if error.code == Code.SHUTDOWN_SCHEDULED.value[0]:
            return failed("the gateway is being drained: it opens no new sessions", DRAIN_REMEDY, str(error))
        change = "reload the gateway if its file was changed (systemctl reload portunus); its log names the cause"
        return failed("the running gateway refuses a hello with this internal.secret and backend", change, str(error))
    except (aiohttp.ClientError, OSError) as error:
        change = "see the logs of the reverse proxy and of the gateway"
        return failed("the WebSocket ends before the hello is answered", change, type(error).__name__)
    return ok("an internal client opened a session and ended it")
