"""Labels of this gateway's objects on Janus: a room's description and a handle's ``opaque_id``. Pure.

    portunus|<instance>|<backend>|<publisher>|<video or screen>     a stream's room, and its handles on every Janus
    portunus|<instance>|<backend>|<publisher>|<video or screen>|remote     the room of a stream's copy on another Janus
    portunus|<instance>                                           the control handle, and the test room of a new session

The *instance* identifies the gateway: it is the same after a restart of that gateway, and different for any other
gateway on the same Janus (docs/janus.md, "Ownership on Janus").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mcu.base import BackendId, PublisherId, StreamKey, StreamType

PREFIX = "portunus"  # the first field of each label
REMOTE = "remote"  # the last field of the label of a copy's room
INSTANCE_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TYPES = {type.value: type for type in StreamType}


@dataclass(frozen=True, slots=True)
class JanusLabel:
    """The fields of a label."""

    instance: str
    key: StreamKey | None = None  # None: of the control handle or the test room, which belong to no stream
    remote: bool = False  # of the room of the stream's copy for subscribers on another Janus


def control_label(instance: str) -> str:
    """Return the label of a gateway's control handle."""
    return f"{PREFIX}|{instance}"


def stream_label(instance: str, key: StreamKey, *, remote: bool = False) -> str:
    """Return the label of a stream's room and handles; ``remote``: of the room of its copy on another Janus."""
    parts = (PREFIX, instance, _escape(key.backend), _escape(key.publisher), key.stream_type.value)
    return "|".join((*parts, REMOTE) if remote else parts)


def parse_label(text: str) -> JanusLabel | None:
    """Return the fields of a label; ``None`` if it is not a label of this version of the gateway."""
    parts = text.split("|")
    if parts[0] != PREFIX or len(parts) < 2 or not INSTANCE_PATTERN.fullmatch(parts[1]):
        return None
    if len(parts) == 2:
        return JanusLabel(parts[1])
    if len(parts) not in (5, 6) or parts[4] not in _TYPES or parts[5:] not in ([], [REMOTE]):
        return None
    key = StreamKey(BackendId(_unescape(parts[2])), PublisherId(_unescape(parts[3])), _TYPES[parts[4]])
    return JanusLabel(parts[1], key, remote=len(parts) == 6)


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("|", "%7C")


def _unescape(part: str) -> str:
    return part.replace("%7C", "|").replace("%25", "%")
