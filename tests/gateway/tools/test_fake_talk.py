"""Requests of the fake Nextcloud to a gateway, and the events that cause them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.tools import talk_check
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_check import REQUIRED_FEATURES, WANTED_FEATURES, UpdateRequired
from gateway.tools.talk_notifier import NotCarriedOut
from gateway.tools.talk_rooms import Permission, TalkRoom, nextcloud_session
from gateway.wire import checksum
from tests.gateway.tools.gateway_requests import ask

OLD_FEATURES = REQUIRED_FEATURES | WANTED_FEATURES - {"changed-users"}


class RecordingGateway:
    """Rooms API that checks signatures, records requests, and answers with ``statuses``, then with 200."""

    def __init__(self, cloud: FakeNextcloud) -> None:
        self.sent: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self.features = frozenset(OLD_FEATURES)
        self.silent = False
        self._cloud = cloud

    async def answer(self, request: web.Request) -> web.Response:
        body, headers = await request.read(), request.headers
        random, given = headers["Spreed-Signaling-Random"], headers["Spreed-Signaling-Checksum"]
        assert checksum.verify(self._cloud.secret, random, given, body)
        self.sent.append(json.loads(body))
        self.headers.append(dict(headers))
        self.bodies.append(body)
        if self.silent:
            await asyncio.sleep(60)
        status = self.statuses.pop(0) if self.statuses else 200
        announced = {talk_check.FEATURES_HEADER: ", ".join(sorted(self.features))}
        return web.json_response({}, status=status, headers=announced)

    def types(self) -> list[str]:
        return [request["type"] for request in self.sent]


@asynccontextmanager
async def attached_nextcloud() -> AsyncIterator[tuple[FakeNextcloud, RecordingGateway]]:
    async with FakeNextcloud() as cloud:
        gateway = RecordingGateway(cloud)
        app = web.Application()
        app.router.add_post("/api/v1/room/{room}", gateway.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        cloud.gateway = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield cloud, gateway
        finally:
            await runner.cleanup()


def test_session_ids_have_talks_form() -> None:
    session = nextcloud_session("alice")
    assert re.fullmatch("[A-Za-z0-9+/]{255}", session)
    assert set("+/") < set(session)
    assert session == nextcloud_session("alice") != nextcloud_session("bob")
    assert nextcloud_session("alice", "a@http://other.example") == f"{session}#a@http://other.example"


def test_properties_are_hidden_from_others_and_name_the_start_of_the_call() -> None:
    room = TalkRoom("r", "Secret", active_since=1.5)
    room.add("users", "alice")
    assert room.properties("alice")["name"] == "Secret"
    assert room.properties()["name"] == "Private conversation"
    since = {"date": "1970-01-01 00:00:01.000000", "timezone_type": 3, "timezone": "UTC"}
    assert room.properties()["active-since"] == since
    assert room.properties(with_description=False).keys() - room.properties().keys() == {"participant-list"}
    assert room.properties().keys() - room.properties(with_description=False).keys() == {"description"}


async def test_headers_and_escapes_are_those_of_talk() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        session = cloud.talk.open("r", "alice")
        await cloud.talk.set_in_call("r", session, 7)
        await cloud.talk.send_message("r", {"text": "ä/"})
        headers = gateway.headers[0]
        assert re.fullmatch("[A-Za-z0-9+/]{64}", headers["Spreed-Signaling-Random"])
        assert headers["Spreed-Signaling-Backend"] == cloud.url
        assert headers["Spreed-Signaling-Backend"].endswith("/")
        assert session.replace("/", "\\/").encode() in gateway.bodies[0]
        assert gateway.bodies[1] == b'{"type":"message","message":{"data":{"text":"\\u00e4\\/"}}}'


async def test_participant_that_leaves_the_call_is_listed_in_changed_only() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        alice, guest = cloud.talk.open("r", "alice"), cloud.talk.open("r")
        for session, flags in ((alice, 7), (guest, 3), (alice, 0), (guest, 0)):
            await cloud.talk.set_in_call("r", session, flags)
        calls = [request["incall"] for request in gateway.sent]
        assert [[user["sessionId"] for user in call["users"]] for call in calls] == [
            [alice],
            [alice, guest],
            [guest],
            [],
        ]
        assert [[user["sessionId"] for user in call["changed"]] for call in calls] == [
            [alice],
            [guest],
            [alice],
            [guest],
        ]
        assert [call["incall"] for call in calls] == [7, 3, 0, 0]
        entry = calls[0]["users"][0]
        assert entry.keys() == {
            *("inCall", "lastPing", "sessionId", "nextcloudSessionId", "participantType", "participantPermissions"),
            *("actorType", "actorId", "userId"),
        }
        assert "userId" not in calls[1]["users"][1]
        await cloud.talk.end_call("r")
        assert gateway.sent[-1] == {"type": "incall", "incall": {"incall": 0, "all": True}}


async def test_permissions_are_sent_with_the_participants_without_session_ids_of_calls() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        alice = cloud.talk.open("r", "alice")
        zoe = cloud.talk.open("r", "zoe", cloud_id="zoe@http://other.example")
        await cloud.talk.invite("r", "bob")
        await cloud.talk.set_permissions("r", zoe, Permission.CUSTOM | Permission.AUDIO)
        assert zoe.endswith("#zoe@http://other.example")
        invite, change = (gateway.sent[0]["invite"], gateway.sent[1]["participants"])
        assert (invite["userids"], invite["alluserids"]) == (["bob"], ["alice", "bob"])
        assert invite["properties"]["participant-list"] == "refresh"
        (changed,) = change["changed"]
        assert (changed["sessionId"], changed["permissions"]) == (zoe, ["publish-audio"])
        assert {user["sessionId"]: user.get("userId") for user in change["users"]} == {
            alice: "alice",
            zoe: None,
            "0": "bob",
        }
        assert all("displayName" in user and "nextcloudSessionId" not in user for user in change["users"])


@pytest.mark.parametrize("changes_only", [False, True])
async def test_change_of_a_member_without_a_session_has_an_empty_list_of_changes(changes_only: bool) -> None:
    async with attached_nextcloud() as (cloud, gateway):
        alice = cloud.talk.open("r", "alice")
        cloud.notifier.changes_only = changes_only
        await cloud.talk.set_permissions_of_user("r", "bob", Permission.CUSTOM)
        (body,) = [request["participants"] for request in gateway.sent]
        assert body.pop("changed") == []
        listed = [] if changes_only else [(alice, 0, 246), ("0", 0, Permission.CUSTOM)]
        users = body.get("users", [])
        assert [(user["sessionId"], user["inCall"], user["participantPermissions"]) for user in users] == listed
        session = cloud.talk.open("r", "bob")
        await cloud.talk.set_permissions_of_user("r", "bob", Permission.CUSTOM | Permission.AUDIO)
        (changed,) = gateway.sent[-1]["participants"]["changed"]
        assert (changed["sessionId"], changed["permissions"]) == (session, ["publish-audio"])


async def test_removal_is_two_requests_and_a_leave_of_a_guest_is_one() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        for userid in ("alice", ""):
            session = cloud.talk.open("r", userid)
            await cloud.talk.remove("r", session)
            sessions, users = (request["disinvite"] for request in gateway.sent[-2:])
            assert sessions["sessionids"] == [session]
            assert "userids" not in sessions
            assert users["userids"] == ([userid] if userid else [])
            assert "sessionids" not in users
        guest = cloud.talk.open("r")
        await cloud.talk.end_session("r", guest)
        assert len(gateway.sent) == 5
        assert gateway.sent[-1]["disinvite"]["sessionids"] == [guest]


async def test_lists_are_left_out_once_a_gateway_has_announced_changed_users() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        alice, bob = cloud.talk.open("r", "alice"), cloud.talk.open("r", "bob")
        await cloud.talk.change("r", name="New")
        assert gateway.sent[-1]["update"]["userids"] == ["alice", "bob"]
        assert gateway.sent[-1]["update"]["properties"]["description"] == ""
        gateway.features = REQUIRED_FEATURES | WANTED_FEATURES
        await cloud.talk.send_message("r", {})  # its answer announces it
        gateway.features, before = frozenset(OLD_FEATURES), len(gateway.sent)  # another server: Talk does not forget it
        await cloud.talk.change("r", name="Newer")
        await cloud.talk.set_in_call("r", alice, 7)
        await cloud.talk.set_permissions("r", alice, Permission.CUSTOM)
        await cloud.talk.invite("r", "carol")
        await cloud.talk.remove("r", bob)
        await cloud.talk.delete("r")
        bodies = [(request["type"], set(request[request["type"]])) for request in gateway.sent[before:]]
        assert bodies == [
            ("update", {"properties"}),
            ("incall", {"incall", "changed"}),
            ("participants", {"changed"}),
            ("invite", {"userids", "properties"}),
            ("disinvite", {"sessionids", "properties"}),
            ("disinvite", {"userids", "properties"}),
            ("delete", set()),
        ]


async def test_requests_precede_the_answers_to_the_leave_and_the_phone_call_that_cause_them() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        alice, guest = cloud.talk.open("r", "alice"), cloud.talk.open("r")
        await cloud.talk.set_in_call("r", alice, 7)
        phone = {"version": "1.0", "roomid": "r", "sessionid": "phone", "userid": "", "incall": 9}
        phone |= {"actortype": "phones", "actorid": "+491234"}
        gateway.sent.clear()
        assert (await ask(cloud, "room", phone))["type"] == "room"
        (request,) = gateway.sent
        assert request["incall"]["changed"] == []
        assert [user["sessionId"] for user in request["incall"]["users"]] == [alice]
        leave = {"version": "1.0", "roomid": "r", "action": "leave", "userid": ""}
        assert (await ask(cloud, "room", leave | {"sessionid": alice}))["type"] == "room"
        assert gateway.sent[1]["incall"] == {"incall": 0, "changed": [], "users": []}
        assert (await ask(cloud, "room", leave | {"sessionid": guest}))["type"] == "room"
        assert gateway.sent[2]["disinvite"]["sessionids"] == [guest]


@pytest.mark.parametrize("userid", ["alice", ""])
async def test_leave_is_answered_with_the_whole_room_unless_talk_has_ended_the_session(userid: str) -> None:
    async with attached_nextcloud() as (cloud, _):
        session = cloud.talk.open("r", userid)
        leave = {"version": "1.0", "roomid": "r", "sessionid": session, "userid": userid, "action": "leave"}
        answer = (await ask(cloud, "room", leave))["room"]
        assert set(answer) == {"version", "roomid", "properties", "permissions"}
        assert (await ask(cloud, "room", leave))["error"]["code"] == "no_such_room"
        for end in (cloud.talk.remove, cloud.talk.end_session):
            session = cloud.talk.open("r", userid)
            await end("r", session)
            assert (await ask(cloud, "room", leave | {"sessionid": session}))["error"]["code"] == "no_such_room"
            join = {"version": "1.0", "roomid": "r", "sessionid": session, "userid": userid}
            assert (await ask(cloud, "room", join))["error"]["code"] == "no_such_room"
        session = cloud.talk.open("r", userid)
        await cloud.talk.delete("r")
        assert (await ask(cloud, "room", leave | {"sessionid": session}))["error"]["code"] == "no_such_room"
        assert (await ask(cloud, "room", {"roomid": "r", "sessionid": "new"}))["error"]["code"] == "no_such_room"


@pytest.mark.parametrize(
    ("statuses", "failed", "count"),
    [([200], 0, 1), ([502, 500, 200], 0, 3), ([502, 502, 502], 502, 3), ([403], 403, 1), ([413], 413, 1)],
)
async def test_request_is_repeated_after_an_error_of_the_server(statuses: list[int], failed: int, count: int) -> None:
    async with attached_nextcloud() as (cloud, gateway):
        gateway.statuses = statuses[:]
        with pytest.raises(NotCarriedOut, match=str(failed)) if failed else nullcontext():
            await cloud.talk.send_message("r", {})
        assert len(gateway.sent) == count
        gateway.statuses = statuses[:]
        answer = await cloud.talk.dial("r", "+491234", caller="Anna")
        assert answer.status == (failed or 200)
        assert (
            gateway.sent[count:]
            == [{"type": "dialout", "dialout": {"number": "+491234", "options": {"caller": "Anna"}}}] * count
        )


async def test_request_without_an_answer_is_aborted_and_repeated() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        assert cloud.notifier.attempt_timeout == 30.0
        cloud.notifier.attempt_timeout, gateway.silent = 0.1, True
        with pytest.raises(TimeoutError):
            await cloud.talk.send_message("r", {})
        assert len(gateway.sent) == 3


async def test_answer_of_a_gateway_that_lacks_a_required_feature_is_an_error() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        gateway.features -= {"switchto"}
        with pytest.raises(UpdateRequired, match="switchto") as raised:
            await cloud.talk.send_message("r", {})
        assert raised.value.missing == {"switchto"}


async def test_leave_fails_if_the_gateway_does_not_carry_out_the_request_that_it_causes() -> None:
    async with attached_nextcloud() as (cloud, gateway):
        guest = cloud.talk.open("r")
        gateway.statuses = [403]
        with pytest.raises(aiohttp.ClientResponseError, match="500"):
            await ask(cloud, "room", {"version": "1.0", "roomid": "r", "sessionid": guest, "action": "leave"})


async def test_action_without_a_gateway_is_an_error() -> None:
    async with FakeNextcloud() as cloud:
        with pytest.raises(RuntimeError, match="gateway"):
            await cloud.talk.send_message("r", {})
