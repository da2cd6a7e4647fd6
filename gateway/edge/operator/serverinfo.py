"""The document of ``/api/v1/serverinfo`` for the operator's Nextcloud.

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

START_DIALOUT = "start-dialout"  # feature id of internal clients that can make phone calls (reference 11.6)

_BUS = {"urls": ["nats://loopback"], "connected": True}  # the protocol's value for a bus within the process
_agent_version = re.compile(r"/(\S+)")


def describe(services: Services, version: str, features: Sequence[str], mcu: McuStatus | None) -> Mapping[str, Any]:
    """Build the document from the present state."""
    document: dict[str, Any] = {"version": version, "features": list(features)}
    if mcu is not None:
        document["sfu"] = _sfu(mcu)
    dialout = [_dialout(services, session) for session in services.hub.sessions.values() if _can_dial(session)]
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
    """Return the further members for one SFU of several, under the names of the protocol's proxy entries."""
    members: dict[str, Any] = {
        "load": sfu.load,
        "publishers": sfu.publishers,
        "clients": sfu.publishers + sfu.subscribers,
    }
    if sfu.state is SfuState.DRAINING:
        members["shutdown"] = True
    if sfu.connected_since:
        members["uptime"] = datetime.fromtimestamp(sfu.connected_since, UTC).isoformat(timespec="seconds")
    if sfu.reason:
        members["reason"] = sfu.reason
    return members


def _janus(sfu: SfuStatus) -> dict[str, Any]:
    if sfu.state not in (SfuState.READY, SfuState.DRAINING):
        return {"url": sfu.url, "connected": False}
    return {"url": sfu.url, "connected": True, "name": sfu.name, "version": sfu.version, **sfu.details}


def _can_dial(session: Session) -> bool:
    return session.is_internal and START_DIALOUT in session.features


def _dialout(services: Services, session: Session) -> dict[str, Any]:
    connection = services.delivery.connection(session)
    if connection is None:
        return {"sessionid": session.id, "connected": False}
    agent = connection.user_agent
    found = _agent_version.search(agent)
    return {
        "sessionid": session.id,
        "connected": True,
        "address": str(connection.address),
        "useragent": agent,
        "version": found[1] if found else "",
        "features": list(session.features),
    }
