"""The messages that only internal clients send: virtual sessions, their own in-call flags, phone calls.

Source: signaling API, Internal clients; reference 11. ``flags`` and ``incall`` are integers.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

Flags = Annotated[int, Meta(ge=0, le=2**32 - 1)]
CallFlags = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]  # negative counts as 0


class ActorOptions(Struct, frozen=True, rename={"actor_id": "actorId", "actor_type": "actorType"}):
    """The actor that a virtual session has at Nextcloud; both members, or neither."""

    actor_id: str | None = None
    actor_type: str | None = None


class AddSession(Struct, frozen=True):
    """Adds a virtual session to a room; ``sessionid`` is chosen by the client (11.2)."""

    sessionid: str | None = None
    roomid: str | None = None
    userid: str | None = None
    user: Raw = Raw()
    flags: Flags | None = None
    incall: CallFlags | None = None
    options: ActorOptions | None = None


class UpdateSession(Struct, frozen=True):
    """Changes a virtual session; absent members stay as they are."""

    sessionid: str | None = None
    roomid: str | None = None
    flags: Flags | None = None
    incall: CallFlags | None = None


class RemoveSession(Struct, frozen=True):
    """Removes a virtual session; ``userid`` is not used."""

    sessionid: str | None = None
    roomid: str | None = None
    userid: str | None = None


class InCallFlags(Struct, frozen=True):
    """The client's own in-call flags (11.3)."""

    incall: CallFlags | None = None


class CallStatus(Struct, frozen=True, omit_defaults=True):
    """The state of a phone call; stored as transient data (11.6)."""

    callid: str | None = None
    status: str | None = None
    cause: str | None = None
    code: int | None = None
    message: str | None = None


class CallError(Struct, frozen=True, omit_defaults=True):
    """The failure of a phone call; forwarded to Nextcloud, or to the room."""

    code: str | None = None
    message: str | None = None
    details: Raw = Raw()


class CallReport(Struct, frozen=True):
    """A report about a phone call; ``type`` is ``status`` or ``error``."""

    type: str | None = None
    roomid: str | None = None
    status: CallStatus | None = None
    error: CallError | None = None


class Internal(Struct, frozen=True):
    """The ``internal`` member of a message; ``type`` names the valid member."""

    type: str | None = None
    addsession: AddSession | None = None
    updatesession: UpdateSession | None = None
    removesession: RemoveSession | None = None
    incall: InCallFlags | None = None
    dialout: CallReport | None = None
