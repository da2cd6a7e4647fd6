"""What the operator's Nextcloud may know of this server: ``/api/v1/serverinfo``.

Source: reference 1.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.core.session import Session
from gateway.flows.services import Services
from mcu.base import McuStatus, SfuState, SfuStatus

START_DIALOUT = "start-dialout"  # client feature of those that can dial (11.6)

_BUS = {"urls": ["nats://loopback"], "connected": True}  # there is none; the answer names the one in this process
_version_of = re.compile(r"/(\S+)")


def describe(services: Services, version: str, features: Sequence[str], mcu: McuStatus | None) -> Mapping[str, Any]:
    """Return the document as of now."""
    document: dict[str, Any] = {"version": version, "features": list(features)}
    if mcu is not None:
        document["sfu"] = _sfu(mcu)
    dialout = [_dialout(services, session) for session in services.hub.sessions.values() if _starts_dialout(session)]
    if dialout:
        document["dialout"] = sorted(dialout, key=lambda client: str(client["sessionid"]))
    document["nats"] = _BUS
    return document


def _sfu(mcu: McuStatus) -> dict[str, Any]:
    if mcu.type != "janus":
        return {"mode": mcu.type}
    if len(mcu.sfus) == 1:
        return {"mode": "janus", "janus": _janus(mcu.sfus[0])}
    first, *others = [_janus(sfu) | _of_several(sfu) for sfu in mcu.sfus]
    return {"mode": "janus", "janus": first, "others": others}


def _of_several(sfu: SfuStatus) -> dict[str, Any]:
    """Return what else there is to tell of one among several, under the names that proxies have there."""
    told: dict[str, Any] = {"load": sfu.load, "publishers": sfu.publishers, "clients": sfu.publishers + sfu.subscribers}
    if sfu.state is SfuState.DRAINING:
        told["shutdown"] = True
    if sfu.connected_since:
        told["uptime"] = datetime.fromtimestamp(sfu.connected_since, UTC).isoformat(timespec="seconds")
    if sfu.reason:
        told["reason"] = sfu.reason
    return told


def _janus(sfu: SfuStatus) -> dict[str, Any]:
    if sfu.state not in (SfuState.READY, SfuState.DRAINING):
        return {"url": sfu.url, "connected": False}
    return {"url": sfu.url, "connected": True, "name": sfu.name, "version": sfu.version, **sfu.details}


def _starts_dialout(session: Session) -> bool:
    return session.is_internal and START_DIALOUT in session.features


def _dialout(services: Services, session: Session) -> dict[str, Any]:
    connection = services.delivery.connection(session)
    if connection is None:
        return {"sessionid": session.id, "connected": False}
    agent = connection.user_agent
    found = _version_of.search(agent)
    return {
        "sessionid": session.id,
        "connected": True,
        "address": str(connection.address),
        "useragent": agent,
        "version": found[1] if found else "",
        "features": list(session.features),
    }
