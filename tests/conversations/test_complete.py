"""Each message and each error code has a conversation, and a row in the protocol document of this server.

The lists are the Structs of what clients and Nextcloud send, the messages that the gateway sends, and ``Code``.
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
from tests.conversations.language import Json, load

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "protocol.md"
SUBTYPES = {  # what the Structs leave open: the values of a member, by its path
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
REQUESTS = (  # the same of Nextcloud's requests
    *("invite.userids", "invite.alluserids", "invite.properties"),
    *("disinvite.userids", "disinvite.sessionids", "disinvite.alluserids"),
    *("update.userids", "update.properties", "delete.userids", "message.data"),
    *("incall.changed", "incall.users", "incall.all", "participants.changed", "participants.users"),
    *("message.data.chat.comment", "message.data.chat.comments", "message.data.chat.refresh"),
    *("switchto.sessions=list", "switchto.sessions=dict"),
)
REASONS = ("hello_timeout", "room_join_timeout", "session_resumed", "room_session_reconnected")
TEXTS = Counter(code.value[0] for code in Code)  # how many messages a code has


def steps(what: str) -> Iterator[Json]:
    """Return what follows this verb, of all conversations, lists of patterns one by one."""
    for conversation in load():
        for _, (_, verb, *rest) in conversation.steps:
            if verb == what:
                yield from rest[-1] if what == "hears" and isinstance(rest[-1], list) else rest[-1:]


@cache
def said() -> frozenset[str]:
    """Return ``path`` and ``path=value`` of all that clients say."""
    return frozenset(path for message in steps("says") for path in paths(message))


@cache
def heard() -> frozenset[str]:
    """Return the same of all that they are to hear."""
    return frozenset(path for message in steps("hears") for path in paths(message))


def paths(value: Json, prefix: str = "") -> Iterator[str]:
    """Return the path of each member, and with ``=`` the text or word that stands there."""
    if isinstance(value, str):
        yield f"{prefix}={value}"
    if isinstance(value, dict):
        for key, member in value.items():
            path = f"{prefix}.{key}" if prefix else key
            yield path
            yield from paths(member, path)


def types(struct: type[Struct]) -> list[str]:
    """Return the members of an envelope: what ``type`` may name."""
    return [name for name in struct.__struct_encode_fields__ if name not in ("id", "type")]


@cache
def sections() -> dict[str, str]:
    """Return the document by heading."""
    parts = re.split(r"^## (.+)$", DOCUMENT.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(section: str, row: str = "") -> set[str]:
    """Return what stands in backticks in a section, or in those of its rows that begin so."""
    lines = [line for line in sections()[section].splitlines() if line.startswith(row)]
    return set(re.findall(r"`([^`]+)`", "\n".join(lines)))


# -- conversations


@pytest.mark.parametrize("kind", [*types(client.ClientMessage), "bye"])
def test_each_message_of_clients_is_said(kind: str) -> None:
    assert f"type={kind}" in said()


@pytest.mark.parametrize("kind", types(internal.Internal))
def test_each_message_of_internal_clients_is_said(kind: str) -> None:
    assert f"internal.{kind}" in said()


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in SUBTYPES for value in SUBTYPES[path]])
def test_each_kind_of_a_message_is_said(path: str, value: str) -> None:
    assert f"{path}={value}" in said()


@pytest.mark.parametrize("kind", types(backend.RoomsRequest))
def test_each_request_of_nextcloud_is_sent(kind: str) -> None:
    if kind == "dialout":
        assert list(steps("dials"))
        return
    assert kind in {request["type"] for request in steps("sends")}


@pytest.mark.parametrize("path", REQUESTS)
def test_each_form_of_a_request_is_sent(path: str) -> None:
    sent = list(steps("sends"))
    forms = {f"switchto.sessions={type(it['switchto']['sessions']).__name__}" for it in sent if "switchto" in it}
    assert path in forms.union(*map(paths, sent))


# reference 2.5-e
@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_a_bye_is_heard(reason: str) -> None:
    assert f"bye.reason={reason}" in heard()


@pytest.mark.parametrize("message", get_args(server.ServerMessage), ids=lambda message: str(message.__name__))
def test_each_message_of_the_server_is_heard(message: type[Struct]) -> None:
    assert f"type={message.__struct_config__.tag}" in heard()


@pytest.mark.parametrize("event", [it for it in types(server.EventBody) if it != "target"])
def test_each_event_is_heard(event: str) -> None:
    assert f"event.{event}" in heard()


# reference 16-a
@pytest.mark.parametrize("code", Code, ids=lambda code: str(code.name))
def test_each_error_is_heard(code: Code) -> None:
    """Where several errors share a code, the text tells which one it is."""
    name, text = code.value
    errors = [it["error"] for it in steps("hears") if isinstance(it, dict) and it.get("type") == "error"]
    texts = [error.get("message") for error in errors if error["code"] == name]
    assert texts if TEXTS[name] == 1 else text in texts


# -- the document


@pytest.mark.parametrize("kind", [*types(client.ClientMessage), "bye"])
def test_each_message_of_clients_is_documented(kind: str) -> None:
    assert kind in named("What is served", "| ")


@pytest.mark.parametrize("kind", types(internal.Internal))
def test_each_message_of_internal_clients_is_documented(kind: str) -> None:
    assert kind in named("What is served", "| `internal`")


@pytest.mark.parametrize("kind", types(backend.RoomsRequest))
def test_each_request_of_nextcloud_is_documented(kind: str) -> None:
    assert kind in named("What is served", "The rooms API") | named("What is served", "any other type")


@pytest.mark.parametrize("message", get_args(server.ServerMessage), ids=lambda message: str(message.__name__))
def test_each_message_of_the_server_is_documented(message: type[Struct]) -> None:
    assert message.__struct_config__.tag in named("What is served", "| ") | named("Errors") | {"error"}


@pytest.mark.parametrize("event", [it for it in types(server.EventBody) if it != "target"])
def test_each_event_is_documented(event: str) -> None:
    assert event in " ".join(named("What is served", "| `event`"))


def test_each_error_is_documented_and_no_other() -> None:
    codes = {code.value[0] for code in Code}
    rows = [line.split("|")[1] for line in sections()["Errors"].splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert documented - DIALOUT == codes
    assert documented >= DIALOUT


DIALOUT = {
    "number_missing",
    "invalid_number",
    "invalid_roomid",
    "no_client_available",
    "timeout",
    "unsupported_status",
    "unsupported_type",
    "error_notify",
}


@pytest.mark.parametrize("code", sorted(DIALOUT))
def test_each_error_of_a_phone_call_is_answered(code: str) -> None:
    assert any(code in msgspec.json.encode(answer).decode() for answer in steps("is answered"))
