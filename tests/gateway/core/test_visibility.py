"""The form in which a recipient sees the content that is sent to its room (reference 4.3, 5.4, 5.5)."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.core.ids import RoomSessionId, SessionId
from gateway.core.permissions import HIDE_DISPLAYNAMES, Permissions
from gateway.core.room import RoomKey
from gateway.core.session import ClientType, Session
from gateway.core.virtual import VirtualSession
from gateway.core.visibility import (
    CHAT_RELAY,
    Content,
    Form,
    by_form,
    form_for,
    join_entry,
    without_author,
    without_display_name,
)
from tests.gateway.core.members import session

NAMES_HIDDEN = Permissions.of([HIDE_DISPLAYNAMES])


def recipient(*features: str, names_hidden: bool = False) -> Session:
    made = session(features=features)
    made.permissions = NAMES_HIDDEN if names_hidden else Permissions()
    return made


def virtual(user: bytes = b'{"displayname":"Phone"}') -> VirtualSession:
    key = RoomKey("cloud", "r")
    return VirtualSession(
        SessionId("public"),
        session(client_type=ClientType.INTERNAL),
        "chosen name",
        key,
        userid="u",
        user=Raw(user),
        flags=0,
        call_flags=0,
        actor=None,
    )


@pytest.mark.parametrize(
    ("content", "plain", "relay", "plain_names_hidden", "relay_names_hidden"),
    [
        (Content.PARTICIPANT, Form.FULL, Form.FULL, Form.WITHOUT_NAMES, Form.WITHOUT_NAMES),
        (Content.NICK_CHANGE, Form.FULL, Form.FULL, Form.HIDDEN, Form.HIDDEN),
        (Content.COMMENTS, Form.FULL, Form.FULL, Form.WITHOUT_NAMES, Form.WITHOUT_NAMES),
        (Content.COMMENTS_OR_REFRESH, Form.REFRESH, Form.FULL, Form.REFRESH, Form.WITHOUT_NAMES),
        (Content.OTHER, Form.FULL, Form.FULL, Form.FULL, Form.FULL),
    ],
)
def test_permissions_and_features_of_a_recipient_decide_the_form(
    content: Content, plain: Form, relay: Form, plain_names_hidden: Form, relay_names_hidden: Form
) -> None:
    assert form_for(recipient(), content) is plain
    assert form_for(recipient(CHAT_RELAY), content) is relay
    assert form_for(recipient(names_hidden=True), content) is plain_names_hidden
    assert form_for(recipient(CHAT_RELAY, names_hidden=True), content) is relay_names_hidden


def test_recipients_are_grouped_by_form_and_left_out_where_the_content_is_hidden() -> None:
    plain, relay, nameless = recipient(), recipient(CHAT_RELAY), recipient(names_hidden=True)
    members = (plain, relay, nameless)
    assert by_form(members, Content.NICK_CHANGE) == {Form.FULL: [plain, relay]}
    assert by_form(members, Content.PARTICIPANT) == {Form.FULL: [plain, relay], Form.WITHOUT_NAMES: [nameless]}
    assert by_form(members, Content.COMMENTS_OR_REFRESH) == {Form.REFRESH: [plain, nameless], Form.FULL: [relay]}
    assert by_form(members, Content.OTHER) == {Form.FULL: [plain, relay, nameless]}


# reference 4.3-c
def test_join_entry_has_the_nextcloud_session_id_only_if_the_client_sent_it() -> None:
    alice = session("alice", features=("f",))
    alice.room_session_id = RoomSessionId("nc1")
    assert join_entry(alice, Form.FULL).roomsessionid == ""
    alice.room_session_given = True
    entry = join_entry(alice, Form.FULL)
    assert (entry.roomsessionid, entry.features, bytes(entry.user)) == ("nc1", ("f",), b'{"displayname":"N"}')


def test_join_entry_of_a_guest_has_the_user_id_of_the_room() -> None:
    guest = session()
    guest.room_userid = "guest"
    assert join_entry(guest, Form.FULL).userid == "guest"


def test_join_entry_marks_federated_sessions_only() -> None:
    entries = [join_entry(session(client_type=client_type), Form.FULL) for client_type in ClientType]
    assert [entry.federated for entry in entries] == [False, False, True]


# reference 4.3-c
def test_join_entry_of_a_virtual_session_does_not_have_the_name_that_its_owner_chose() -> None:
    entry = join_entry(virtual(), Form.FULL)
    assert (entry.sessionid, entry.userid, entry.features) == ("public", "u", ())
    assert bytes(entry.user) == b'{"displayname":"Phone"}'


def test_join_entry_without_names_keeps_the_user_data_except_the_display_name() -> None:
    assert bytes(join_entry(session(), Form.WITHOUT_NAMES).user) == b""
    kept = join_entry(virtual(b'{"displayname":"Phone","actorId":"a"}'), Form.WITHOUT_NAMES)
    assert bytes(kept.user) == b'{"actorId":"a"}'


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        (b'{"displayname":"N"}', b""),
        (b'{"displayname":5,"x":{"displayname":"N"}}', b'{"x":{"displayname":"N"}}'),
        (b"[1]", b"[1]"),
        (b"", b""),
    ],
)
def test_display_name_is_removed_from_objects_only(user: bytes, shown: bytes) -> None:
    assert bytes(without_display_name(Raw(user))) == shown


@pytest.mark.parametrize(
    ("comment", "shown"),
    [
        (b'{"actorDisplayName":"Bob","id":1}', b'{"actorDisplayName":"","id":1}'),
        (b'{"actorDisplayName": ""}', b'{"actorDisplayName": ""}'),
        (b'{"actorDisplayName": 5}', b'{"actorDisplayName": 5}'),
        (b'{"id": 1}', b'{"id": 1}'),
        (b'"text"', b'"text"'),
    ],
)
def test_author_of_a_comment_is_emptied_and_nothing_else_changes(comment: bytes, shown: bytes) -> None:
    assert bytes(without_author(Raw(comment))) == shown
