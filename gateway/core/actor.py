"""The actor of a session without a Nextcloud user: a federated user or a phone participant.

Source: reference 4.1, 11.2.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct


class Actor(Struct, frozen=True):
    """An actor of Nextcloud Talk: the type and id of a participant."""

    id: str
    type: str


class _UserData(Struct, frozen=True, rename="camel"):
    actor_id: str = ""
    actor_type: str = ""


_decoder = msgspec.json.Decoder(_UserData)


def actor_of(user: Raw) -> Actor | None:
    """Return the actor named in the user data of a federated session's token; ``None`` without one."""
    try:
        data = _decoder.decode(user)
    except msgspec.DecodeError:
        return None
    return Actor(data.actor_id, data.actor_type) if data.actor_id and data.actor_type else None
