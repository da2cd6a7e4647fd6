"""The candidates of a client, in the form that aioice uses."""

from __future__ import annotations

from ipaddress import ip_address

import aioice

from mcu.inprocess.transport.aiortc_internals.ice import COMPONENT
from sdp.candidates import Candidate


def usable_candidate(candidate: Candidate) -> aioice.Candidate | None:
    """Convert a candidate; ``None`` if it is of no use: TCP, a host name, no port, an RTCP component."""
    try:
        address = ip_address(candidate.address)
    except ValueError:
        return None
    if candidate.protocol != "udp" or candidate.component != COMPONENT or address.is_unspecified:
        return None
    if candidate.type == "prflx" or candidate.port == 0:
        return None
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=COMPONENT,
        transport="udp",
        priority=candidate.priority,
        host=str(address),
        port=candidate.port,
        type=candidate.type,
    )
