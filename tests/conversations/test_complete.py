"""Each message and each error code has a conversation, and a row in docs/reference.md.

The lists are the Structs of the messages of clients, Nextcloud and the gateway, and ``Code``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Struct

from gateway.wire import backend, client, internal, server
from gateway.wire.errors import Code
from tests.conversations.player import Json, load

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "reference.md"
SUBTYPES = {  # the values of members that the Structs declare as str, by the path of the member
    "hello.version": ("1.0", "2.0"),
    "hello.auth.type": ("client", "federation", "internal"),
    "transient.type": ("set", "remove"),
    "message.recipient.type": ("session", "user", "room", "call"),
    "control.recipient.type": ("session", "user", "room", "call"),
    "message.data.type": (
        "offer",
        "answer",
        "candidate",
        "endOfCandidates",
        "requestoffer",
        "sendoffer",
        "selectStream",
        "unshareScreen",
    ),
}
REQUEST_MEMBERS = (  # members of Nextcloud's requests that may be left out, by path
    *("invite.userids", "invite.alluserids", "invite.properties"),
    *("disinvite.userids", "disinvite.sessionids", "disinvite.alluserids"),
    *("update.userids", "update.properties", "delete.userids", "message.data"),
    *("incall.changed", "incall.users", "incall.all", "participants.changed", "participants.users"),
    *("message.data.chat.comment", "message.data.chat.comments", "message.data.chat.refresh"),
    *("switchto.sessions=list", "switchto.sessions=dict"),
)
# ``resumed`` needs a broken connection to another server: tests/gateway/test_federation_interrupted.py receives it.
EVENTS = [name for name in server.EventBody.__struct_encode_fields__ if name not in ("target", "type", "resumed")]
REASONS = ("hello_timeout", "room_join_timeout", "session_resumed", "room_session_reconnected")
TEXTS = Counter(code.value[0] for code in Code)  # how many error texts share a code


def steps(verb: str, *, of_nextcloud: bool = False) -> Iterator[Json]:
    """Yield the arguments of each step with this verb, of clients or of Nextcloud; each pattern of a list by itself."""
    for conversation in load():
        for _, (actor, action, *rest) in conversation.steps:
            if action == verb and (actor == "nextcloud") is of_nextcloud:
                yield from rest[-1] if verb == "receives" and isinstance(rest[-1], list) else rest[-1:]


@cache
def sent_members() -> frozenset[str]:
    """Return ``path`` and ``path=value`` of each member of the messages that clients send."""
    return frozenset(path for message in steps("sends") for path in paths(message))


@cache
def received_members() -> frozenset[str]:
    """Return ``path`` and ``path=value`` of each member of the messages that clients must receive."""
    return frozenset(path for message in steps("receives") for path in paths(message))


def paths(value: Json, prefix: str = "") -> Iterator[str]:
    """Yield the path of each member, and for strings also ``path=value``."""
    if isinstance(value, str):
        yield f"{prefix}={value}"
    if isinstance(value, dict):
        for key, member in value.items():
            path = f"{prefix}.{key}" if prefix else key
            yield path
            yield from paths(member, path)


def types(struct: type[Struct]) -> list[str]:
    """Return the member names of an envelope, which are the values of its ``type``."""
    return [name for name in struct.__struct_encode_fields__ if name not in ("id", "type")]


@cache
def sections() -> dict[str, str]:
    """Return the sections of docs/reference.md by number."""
    parts = re.split(r"^##+ ([\d.]+) .+$", DOCUMENT.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words_in(section: str, row: str = "") -> set[str]:
    """Return the words in backticks in a section, or in its lines that begin with ``row``."""
    lines = [line for line in sections()[section].splitlines() if line.startswith(row)]
    return set(re.findall(r"`([^`]+)`", "\n".join(lines)))


# -- conversations


@pytest.mark.parametrize("message_type", [*types(client.ClientMessage), "bye"])
def test_each_message_of_clients_is_sent(message_type: str) -> None:
    assert f"type={message_type}" in sent_members()


@pytest.mark.parametrize("message_type", types(internal.Internal))
def test_each_message_of_internal_clients_is_sent(message_type: str) -> None:
    assert f"internal.{message_type}" in sent_members()


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in SUBTYPES for value in SUBTYPES[path]])
def test_each_variant_of_a_message_is_sent(path: str, value: str) -> None:
    assert f"{path}={value}" in sent_members()


@pytest.mark.parametrize("message_type", types(backend.RoomsRequest))
def test_each_request_of_nextcloud_is_sent(message_type: str) -> None:
    if message_type == "dialout":
        assert list(steps("dials", of_nextcloud=True))
        return
    assert message_type in {request["type"] for request in steps("sends", of_nextcloud=True)}


@pytest.mark.parametrize("path", REQUEST_MEMBERS)
def test_each_form_of_a_request_is_sent(path: str) -> None:
    requests = list(steps("sends", of_nextcloud=True))
    forms = {f"switchto.sessions={type(it['switchto']['sessions']).__name__}" for it in requests if "switchto" in it}
    assert path in forms.union(*map(paths, requests))


# reference 2.5-e
@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_a_bye_is_received(reason: str) -> None:
    assert f"bye.reason={reason}" in received_members()


@pytest.mark.parametrize("message", get_args(server.ServerMessage), ids=lambda message: str(message.__name__))
def test_each_message_of_the_server_is_received(message: type[Struct]) -> None:
    assert f"type={message.__struct_config__.tag}" in received_members()


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_is_received(event: str) -> None:
    assert f"event.{event}" in received_members()


# reference 16-a
@pytest.mark.parametrize("code", Code, ids=lambda code: str(code.name))
def test_each_error_is_received(code: Code) -> None:
    """Errors with the same code are distinguished by their text."""
    name, text = code.value
    errors = [it["error"] for it in steps("receives") if isinstance(it, dict) and it.get("type") == "error"]
    texts = [error.get("message") for error in errors if error["code"] == name]
    assert texts if TEXTS[name] == 1 else text in texts


# -- the reference


@pytest.mark.parametrize("message_type", [*types(client.ClientMessage), "bye"])
def test_each_message_of_clients_is_documented(message_type: str) -> None:
    assert message_type in words_in("2.2", "| ")


@pytest.mark.parametrize("message_type", types(internal.Internal))
def test_each_message_of_internal_clients_is_documented(message_type: str) -> None:
    assert message_type in words_in("2.2", "| `internal`")


@pytest.mark.parametrize("message_type", types(backend.RoomsRequest))
def test_each_request_of_nextcloud_is_documented(message_type: str) -> None:
    assert message_type in words_in("6")


@pytest.mark.parametrize("message", get_args(server.ServerMessage), ids=lambda message: str(message.__name__))
def test_each_message_of_the_server_is_documented(message: type[Struct]) -> None:
    assert message.__struct_config__.tag in words_in("2.2", "| ")


@pytest.mark.parametrize("event", [*EVENTS, "federation_interrupted", "federation_resumed"])
def test_each_event_is_documented(event: str) -> None:
    assert event in " ".join(words_in("2.2", "| `event`"))


def test_each_error_is_documented_and_no_other() -> None:
    codes = {code.value[0] for code in Code}
    rows = [line.split("|")[1] for line in sections()["16"].splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert documented - DIALOUT_ERRORS == codes
    assert documented >= DIALOUT_ERRORS


DIALOUT_ERRORS = {
    "number_missing",
    "invalid_number",
    "invalid_roomid",
    "no_client_available",
    "timeout",
    "unsupported_status",
    "unsupported_type",
    "error_notify",
}


@pytest.mark.parametrize("code", sorted(DIALOUT_ERRORS))
def test_each_error_of_a_phone_call_is_answered(code: str) -> None:
    assert any(code in msgspec.json.encode(answer).decode() for answer in steps("is answered", of_nextcloud=True))
