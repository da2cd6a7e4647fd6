"""How what we own on Janus is named: the description of a room and the ``opaque_id`` of a handle. Pure.

    portunus|<instance>|<backend>|<session>|<video or screen>     the room of a stream, and each handle in it
    portunus|<instance>|<backend>|<session>|<video or screen>|remote     the room of a copy on another Janus
    portunus|<instance>                                           the control handle

The *instance* says which gateway it belongs to: the same after a restart of that gateway, another one for any other
gateway on the same Janus (docs/janus.md, "Whose is what").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mcu.base import BackendId, PublisherId, StreamKey, StreamType

OURS = "portunus"  # how each label of a gateway begins
REMOTE = "remote"
INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TYPES = {type.value: type for type in StreamType}


@dataclass(frozen=True, slots=True)
class JanusLabel:
    """What a label says."""

    instance: str
    key: StreamKey | None = None  # None: no stream's, but the gateway's own control handle
    remote: bool = False  # a copy of the stream for subscribers that are better served there


def control(instance: str) -> str:
    """Name the control handle of a gateway."""
    return f"{OURS}|{instance}"


def label(instance: str, key: StreamKey, *, remote: bool = False) -> str:
    """Name a stream's room and its handles; ``remote``: the room of a copy on another Janus, where no publisher is."""
    parts = (OURS, instance, _escaped(key.backend), _escaped(key.publisher), key.stream_type.value)
    return "|".join((*parts, REMOTE) if remote else parts)


def read(text: str) -> JanusLabel | None:
    """Return what a label says; ``None``: no gateway made it, or one of another version."""
    parts = text.split("|")
    if parts[0] != OURS or len(parts) < 2 or not INSTANCE.fullmatch(parts[1]):
        return None
    if len(parts) == 2:
        return JanusLabel(parts[1])
    if len(parts) not in (5, 6) or parts[4] not in _TYPES or parts[5:] not in ([], [REMOTE]):
        return None
    key = StreamKey(BackendId(_plain(parts[2])), PublisherId(_plain(parts[3])), _TYPES[parts[4]])
    return JanusLabel(parts[1], key, remote=len(parts) == 6)


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("|", "%7C")


def _plain(part: str) -> str:
    return part.replace("%7C", "|").replace("%25", "%")
