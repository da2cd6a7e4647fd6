"""The form of every request that a server may send to Nextcloud, and of its answers to requests of Nextcloud.

Source: signaling API, Backend requests; reference 3.2, 4.1, 4.2, 4.5, 11.2, 11.3, 11.6.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, convert

from tests.conversations.form_types import Closed, Json, Name
from tests.conversations.message_forms import Error


class AuthBody(Closed):
    version: Literal["1.0"]
    params: Json


class Auth(Closed, tag="auth"):
    auth: AuthBody


class RoomRequestBody(Closed):
    """A join or leave; only a leave has ``action``."""

    version: Literal["1.0"]
    roomid: Name
    sessionid: Name
    userid: str | UnsetType = UNSET
    action: Literal["leave"] | UnsetType = UNSET
    actorid: Name | UnsetType = UNSET
    actortype: Name | UnsetType = UNSET
    incall: int | UnsetType = UNSET


class RoomRequest(Closed, tag="room"):
    room: RoomRequestBody


class SessionBody(Closed):
    version: Literal["1.0"]
    roomid: Name
    action: Literal["add", "remove"]
    sessionid: Name
    userid: Name | UnsetType = UNSET
    user: Json | UnsetType = UNSET


class SessionRequest(Closed, tag="session"):
    session: SessionBody


class PingEntry(Closed):
    sessionid: Name
    userid: Name | UnsetType = UNSET


class PingBody(Closed):
    version: Literal["1.0"]
    roomid: str
    entries: Annotated[list[PingEntry], Meta(min_length=1)]


class Ping(Closed, tag="ping"):
    ping: PingBody


BackendRequest = Auth | RoomRequest | SessionRequest | Ping


def check_request(request: Json) -> None:
    """Check the form of one request to Nextcloud.

    Raises:
        AssertionError: the request has another form.
    """
    try:
        convert(request, BackendRequest)
    except msgspec.ValidationError as error:
        raise AssertionError(f"not a form of the protocol: {error}; request {request}") from error


# -- answers to Nextcloud


class AcceptedCall(Closed):
    callid: Name


class RefusedCall(Closed):
    error: Error


class DialoutAnswer(Closed, tag="dialout"):
    """The answer to ``dialout``; all other requests are answered with an empty object."""

    dialout: dict[str, Json]

    def __post_init__(self) -> None:
        convert(self.dialout, RefusedCall if "error" in self.dialout else AcceptedCall)


def check_answer(status: int, answer: Json) -> None:
    """Check the form of the answer to ``dialout``.

    Raises:
        AssertionError: the answer has another form, or one of another status.
    """
    try:
        call = convert(answer, DialoutAnswer)
    except (msgspec.ValidationError, ValueError) as error:
        raise AssertionError(f"not a form of the protocol: {error}; answer {answer}") from error
    assert (status == 200) == ("callid" in call.dialout), f"answer {status} {answer}"
