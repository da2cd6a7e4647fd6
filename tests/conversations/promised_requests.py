"""The form of every request that a server may send to the backend, and of its answers to the backend's.

Source: signaling API, Backend requests; reference 3.2, 4.1, 4.2, 4.5, 11.2, 11.3, 11.6.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, convert

from tests.conversations.promised import Error
from tests.conversations.promised_base import Closed, Json, Name


class AuthBody(Closed):
    version: Literal["1.0"]
    params: Json


class Auth(Closed, tag="auth"):
    auth: AuthBody


class RoomRequestBody(Closed):
    """``action`` is there on leave alone."""

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


def check_request(asked: Json) -> None:
    """Check one request to the backend.

    Raises:
        AssertionError: it has not the form that the document gives it.
    """
    try:
        convert(asked, BackendRequest)
    except msgspec.ValidationError as error:
        raise AssertionError(f"not the form of the document: {error}; asked {asked}") from error


# -- answers to the backend


class Accepted(Closed):
    callid: Name


class Refused(Closed):
    error: Error


class Call(Closed, tag="dialout"):
    """The answer to a dialout; all other requests are answered with an empty object."""

    dialout: dict[str, Json]

    def __post_init__(self) -> None:
        convert(self.dialout, Refused if "error" in self.dialout else Accepted)


def check_answer(status: int, answer: Json) -> None:
    """Check the answer to a dialout.

    Raises:
        AssertionError: it has not the form that the document gives it.
    """
    try:
        call = convert(answer, Call)
    except (msgspec.ValidationError, ValueError) as error:
        raise AssertionError(f"not the form of the document: {error}; answered {answer}") from error
    assert (status == 200) == ("callid" in call.dialout), f"answered {status} {answer}"
