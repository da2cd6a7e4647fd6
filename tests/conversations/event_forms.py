"""The form of every event that a server may send to a client.

Source: signaling API, Room events to Room messages; reference 4.3, 4.6, 6, 7.3-7.5.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, convert

from tests.conversations.form_types import Closed, Json, Name

Flags = Annotated[int, Meta(ge=0, le=15)]  # in call, audio, video, phone


class JoinEntry(Closed):
    sessionid: Name
    userid: str
    features: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET
    user: Json | UnsetType = UNSET
    roomsessionid: Name | UnsetType = UNSET
    federated: Literal[True] | UnsetType = UNSET


class JoinEvent(Closed):
    target: Literal["room"]
    type: Literal["join"]
    join: Annotated[list[JoinEntry], Meta(min_length=1)]


class LeaveEvent(Closed):
    target: Literal["room"]
    type: Literal["leave"]
    leave: Annotated[list[Name], Meta(min_length=1)]


class RoomMessage(Closed):
    roomid: Name
    data: Json


class MessageEvent(Closed):
    target: Literal["room"]
    type: Literal["message"]
    message: RoomMessage


class DeleteEvent(Closed):
    target: Literal["room"]
    type: Literal["delete"]


class SwitchTo(Closed):
    roomid: Name
    details: Json | UnsetType = UNSET


class SwitchToEvent(Closed):
    target: Literal["room"]
    type: Literal["switchto"]
    switchto: SwitchTo


class RoomListBody(Closed):
    roomid: Name
    properties: Json | UnsetType = UNSET


class InviteEvent(Closed):
    target: Literal["roomlist"]
    type: Literal["invite"]
    invite: RoomListBody


class ListUpdateEvent(Closed):
    target: Literal["roomlist"]
    type: Literal["update"]
    update: RoomListBody


class DisinviteBody(Closed):
    roomid: Name
    reason: Literal["disinvited", "deleted"]


class DisinviteEvent(Closed):
    target: Literal["roomlist"]
    type: Literal["disinvite"]
    disinvite: DisinviteBody


class ParticipantList(Closed):
    """Participants as Nextcloud lists them, with the server's own entries."""

    roomid: Name
    users: list[dict[str, Json]]

    def __post_init__(self) -> None:
        for user in self.users:
            if "permissions" in user:
                raise ValueError("permissions are never sent to clients")
            if user.get("internal") or ("lastPing" in user and user.get("virtual") and "userId" not in user):
                convert(user, OwnEntry)


class OwnEntry(Closed):
    """An internal or virtual session in the list of participants."""

    inCall: Flags  # noqa: N815 - the name on the wire
    sessionId: Name  # noqa: N815 - the name on the wire
    lastPing: int  # noqa: N815 - the name on the wire
    internal: Literal[True] | UnsetType = UNSET
    virtual: Literal[True] | UnsetType = UNSET
    features: list[str] | UnsetType = UNSET


class FlagsOfAll(Closed):
    """The new flags of all participants of the call."""

    roomid: Name
    incall: int
    all: Literal[True]


class ParticipantsEvent(Closed):
    target: Literal["participants"]
    type: Literal["update"]
    update: dict[str, Json]

    def __post_init__(self) -> None:
        convert(self.update, FlagsOfAll if "all" in self.update else ParticipantList)


class FlagsBody(Closed):
    roomid: Name
    sessionid: Name
    flags: int


class FlagsEvent(Closed):
    target: Literal["participants"]
    type: Literal["flags"]
    flags: FlagsBody


_EVENTS: dict[tuple[str, str], type[Closed]] = {
    ("room", "join"): JoinEvent,
    ("room", "leave"): LeaveEvent,
    ("room", "message"): MessageEvent,
    ("room", "delete"): DeleteEvent,
    ("room", "switchto"): SwitchToEvent,
    ("roomlist", "invite"): InviteEvent,
    ("roomlist", "update"): ListUpdateEvent,
    ("roomlist", "disinvite"): DisinviteEvent,
    ("participants", "update"): ParticipantsEvent,
    ("participants", "flags"): FlagsEvent,
}


class Event(Closed, tag="event"):
    event: dict[str, Json]

    def __post_init__(self) -> None:
        name = (self.event.get("target", ""), self.event.get("type", ""))
        if name not in _EVENTS:
            raise ValueError(f"no such event: {name}")
        convert(self.event, _EVENTS[name])
