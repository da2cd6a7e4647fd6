"""Steps at one Janus: connect as the gateway does, create a room, check version and settings.

Source: docs/janus.md. The doctor has a session and an instance name of its own, so that it does not touch the rooms of
the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass

from gateway.tools.doctor.steps import Outcome, failed, ok, warning
from mcu.base import SfuState
from mcu.janus.connection.connector import NO_ATTEMPT, JanusConnector
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.messages import RECOMMENDED_VERSION, version_numbers
from mcu.janus.connection.web_socket import NO_ANSWER
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.settings import JanusServerSettings

ATTEMPT_LIMIT = 20.0  # seconds within which the first attempt to connect must succeed or fail


@dataclass(slots=True)
class ExaminedJanus:
    """One Janus of the configuration; ``connect_janus`` sets the attributes that the later steps check."""

    settings: JanusServerSettings
    version: str = ""
    restriction: str = ""  # names a feature that does not work with this version, in one sentence
    reclaim_timeout: int = 0  # seconds
    event_handlers: bool = False


async def connect_janus(janus: ExaminedJanus, request_timeout: float) -> Outcome:
    """Connect as the gateway does, and create and destroy a room; ``request_timeout``: ``mcu.timeout``, in seconds."""
    instance = secrets.token_hex(6)
    rooms = RoomRegistry(janus.settings.admin_key, instance, set())
    changed = asyncio.Event()
    connector = JanusConnector(
        janus.settings,
        request_timeout,
        instance,
        JanusLog(),
        time.monotonic,
        time.time,
        changed.set,
        rooms.reason_unusable,
        _idle,
    )
    connector.start()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTEMPT_LIMIT):
                while connector.state is SfuState.CONNECTING and connector.reason in (NO_ATTEMPT, NO_ANSWER):
                    changed.clear()
                    await changed.wait()
        if connector.state is SfuState.READY:
            janus.version, janus.restriction = connector.version, connector.restriction
            janus.reclaim_timeout = int(connector.reclaim_timeout)
            janus.event_handlers = connector.event_handlers
            return ok(f"Janus {janus.version} has VideoRoom and data channels, and creates rooms")
        return _unusable_outcome(janus.settings, connector.state, connector.reason)
    finally:
        await connector.stop()


async def _idle(*_: object) -> None:
    """Do nothing with a new session: the doctor leaves the rooms and handles of other sessions alone."""


def _unusable_outcome(settings: JanusServerSettings, state: SfuState, reason: str) -> Outcome:
    if state is SfuState.CONNECTING:
        change = (
            "start Janus (systemctl status janus) with its WebSocket transport, and give mcu.janus.url the ws_port of"
            " janus.transport.websockets.jcfg"
        )
        return failed(f"Janus at {settings.url} cannot be used: {reason}", change)
    if reason.startswith("it refuses this gateway"):
        change = "give mcu.janus.api_secret the api_secret of janus.jcfg (mcu.janus.token, if it uses token_auth)"
        return failed("Janus refuses the gateway's requests", change, reason)
    if "VideoRoom plugin" in reason:
        change = "install janus.plugin.videoroom, and do not list it in `plugins: { disable = … }` of janus.jcfg"
        return failed(reason, change)
    if "data channels" in reason:
        return failed(reason, "install a Janus that is built with usrsctp, as Debian's is")
    if "string_ids" in reason:
        return failed(reason, "set string_ids = false in janus.plugin.videoroom.jcfg, and restart Janus")
    cause, _, change = reason.partition(": ")
    return failed(cause, change or "see docs/janus.md", reason)


async def check_version(janus: ExaminedJanus) -> Outcome:
    """Compare the version with the oldest recommended one, and report a feature that does not work with it."""
    if () < version_numbers(janus.version) < RECOMMENDED_VERSION:
        oldest = ".".join(map(str, RECOMMENDED_VERSION))
        change = f"update Janus to {oldest} or newer"
        return warning(f"Janus {janus.version} lacks security fixes", change, f"{oldest} is the oldest recommended one")
    if janus.restriction:
        return warning("a feature does not work with this Janus", "see docs/janus.md", janus.restriction)
    return ok(janus.version)


async def check_reclaim(janus: ExaminedJanus) -> Outcome:
    """Check that Janus keeps a session after its connection has broken."""
    if not janus.reclaim_timeout:
        change = "set reclaim_session_timeout = 10 under general in janus.jcfg, and restart Janus"
        return warning(
            "calls end when the gateway's connection to Janus breaks", change, "reclaim_session_timeout is 0"
        )
    return ok(f"Janus keeps a session for {janus.reclaim_timeout} s without a connection")


async def check_events(janus: ExaminedJanus) -> Outcome:
    """Check that Janus has an event handler, since the gateway computes its media metrics from Janus' events."""
    if not janus.event_handlers:
        change = (
            "set up janus.eventhandler.wsevh.jcfg and events in janus.jcfg as docs/janus.md says, and restart Janus"
        )
        return warning("there are no metrics of bitrate, loss and ICE: Janus has no event handler", change)
    return ok("an event handler is enabled")
