"""Clients of one gateway in rooms of another: two processes of ``portunus serve`` with a Nextcloud each.

The tests share the processes, and each leaves no session there. A test that says so runs the gateways in its own
process, because it needs new ones or changes them inside.

Source: reference 12.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.tools.talk_client import RequestRefused
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.federated import REMOTE_ROOM, ROOM, Json, two_clouds, two_servers
from tests.gateway.federated_processes import FederatedProcesses, two_processes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FederatedProcesses]:
    async with two_processes(tmp_path_factory.mktemp("processes")) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def servers(processes: FederatedProcesses) -> AsyncIterator[FederatedProcesses]:
    async with processes.shared():
        yield processes


def joined(*sessions: str) -> Any:
    """Return a condition: a join event with these sessions."""
    return lambda message: set(sessions) <= {entry["sessionid"] for entry in entries(message)}


def entries(message: Json) -> list[Json]:
    found: list[Json] = message.get("event", {}).get("join", []) if message["type"] == "event" else []
    return found


def is_federated(message: Json) -> bool:
    """Return whether the message is a join event with a federated session."""
    return any(entry.get("federated") for entry in entries(message))


def is_event(target: str, type: str) -> Any:
    return lambda message: (
        message["type"] == "event" and (message["event"]["target"], message["event"]["type"]) == (target, type)
    )


def has_data(data: Any) -> Any:
    return lambda message: message["type"] in ("message", "control") and message[message["type"]]["data"] == data


# reference 12.1-a
async def test_join_enters_the_room_of_the_host(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.at_home("alice") as alice:
        reply = await servers.join(alice, "alice")
        assert reply["room"] == {"roomid": ROOM, "properties": {"name": "remote"}}
        seen = await alice.wait_for(joined(alice.session_id))
        (own,) = [entry for entry in entries(seen) if entry["sessionid"] == alice.session_id]
        assert (own["userid"], own["federated"], own["roomsessionid"]) == ("alice", True, servers.session_of("alice"))
        await alice.wait_for(joined(bob.session_id))
        remote = await bob.wait_for(is_federated)
        (entry,) = entries(remote)
        assert entry["sessionid"] != alice.session_id
        assert (await servers.home.stats())["rooms"] == 0
        request = await servers.host_cloud.wait_for(
            lambda request: request.body.get("sessionid") == servers.session_of("alice")
        )
        assert request.body["userid"] == "alice"
        assert "actorid" not in request.body  # Talk's tokens name no actor


# reference 12.1-b
async def test_local_room_is_left_once_the_host_has_accepted(servers: FederatedProcesses) -> None:
    async with servers.at_home("alice") as alice, servers.at_home("carol") as carol:
        await alice.join("here", "nc-alice-here")
        await carol.join("here", "nc-carol-here")
        with pytest.raises(RequestRefused) as refused:
            await servers.join(alice, "alice", exp=1)
        assert refused.value.code == "token_expired"
        assert (await servers.home.stats())["rooms"] == 1
        assert not any(message.get("event", {}).get("type") == "leave" for message in carol.messages)
        await servers.join(alice, "alice")
        await carol.wait_for(is_event("room", "leave"))
        await servers.home_cloud.wait_for(
            lambda request: request.type == "room" and request.body.get("action") == "leave"
        )


# reference 12.1-c
async def test_messages_go_in_both_directions(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        remote = entries(await bob.wait_for(is_federated))
        remote_id = remote[0]["sessionid"]
        await alice.wait_for(joined(bob.session_id))
        await alice.send_message(bob.session_id, {"n": 1})
        received = await bob.wait_for(has_data({"n": 1}))
        assert received["message"]["sender"] == {"type": "session", "sessionid": remote_id, "userid": "alice"}
        await bob.send_message(remote_id, {"n": 2})
        received = await alice.wait_for(has_data({"n": 2}))
        assert received["message"]["sender"] == {"type": "session", "sessionid": bob.session_id, "userid": "bob"}
        for recipient in ({"type": "room"}, {"type": "user", "userid": "bob"}):
            await alice.send({"type": "message", "message": {"recipient": recipient, "data": recipient}})
            await bob.wait_for(has_data(recipient))
        control = {"recipient": {"type": "session", "sessionid": bob.session_id}, "data": {"c": 1}}
        await alice.send({"type": "control", "control": control})
        await bob.wait_for(has_data({"c": 1}))
        mute = {"action": "forceMute", "peerId": remote_id}
        control = {"recipient": {"type": "session", "sessionid": remote_id}, "data": mute}
        await bob.send({"type": "control", "control": control})
        await alice.wait_for(has_data(mute | {"peerId": alice.session_id}))


async def test_transient_data_is_that_of_the_host(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        body = {"type": "set", "key": f"sd:{alice.session_id}", "value": {"a": 1}}
        await alice.send({"type": "transient", "transient": body})
        seen = await bob.wait_for(lambda message: message["type"] == "transient")
        assert seen["transient"]["key"].startswith("sd:")
        assert seen["transient"]["key"] != body["key"]
        own = await alice.wait_for(lambda message: message["type"] == "transient")
        assert own["transient"]["key"] == body["key"]
        async with servers.federated("carol") as carol:
            initial = await carol.wait_for(lambda message: message["type"] == "transient")
            assert initial["transient"] == {"type": "initial", "data": {seen["transient"]["key"]: {"a": 1}}}
        wrong = {"type": "set", "key": "sd:another", "value": 1}
        with pytest.raises(RequestRefused) as refused:
            await alice.request("transient", wrong)
        assert refused.value.code == "not_allowed"


async def test_events_of_the_hosts_nextcloud_reach_the_client(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice", "chat-relay") as alice:
        actor = f"alice@{servers.home_cloud.url.partition('//')[2].rstrip('/')}"
        users = [
            {"sessionId": servers.session_of("alice"), "inCall": 7, "actorType": "federated_users", "actorId": actor},
            {"sessionId": nextcloud_session("bob"), "inCall": 7, "actorType": "users", "actorId": "bob"},
        ]
        incall = {"incall": 7, "users": users, "changed": users}
        await servers.host_cloud.send(servers.host_url, REMOTE_ROOM, {"type": "incall", "incall": incall})
        update = (await alice.wait_for(is_event("participants", "update")))["event"]["update"]
        assert update["roomid"] == ROOM
        found = {(user["sessionId"], user["actorType"], user["actorId"]) for user in update["users"]}
        host = servers.host_cloud.url.partition("//")[2].rstrip("/")
        assert found == {
            (alice.session_id, "users", "alice"),
            (bob.session_id, "federated_users", f"bob@{host}"),
        }
        comment = {
            "token": REMOTE_ROOM,
            "actorType": "users",
            "actorId": "bob",
            "messageParameters": {
                "mention-user1": {"type": "user", "id": "bob", "name": "Bob"},
                "mention-user2": {"type": "user", "id": "alice", "name": "Alice", "server": servers.home_cloud.url},
            },
        }
        data = {"type": "chat", "chat": {"comment": comment, "refresh": True}}
        await servers.host_cloud.send(servers.host_url, REMOTE_ROOM, {"type": "message", "message": {"data": data}})
        message = (await alice.wait_for(is_event("room", "message")))["event"]["message"]
        received = message["data"]["chat"]["comment"]
        assert (message["roomid"], received["token"], received["actorType"]) == (ROOM, ROOM, "federated_users")
        assert received["actorId"] == f"bob@{host}"
        assert received["messageParameters"]["mention-user1"]["server"] == servers.host_cloud.url.rstrip("/")
        assert "server" not in received["messageParameters"]["mention-user2"]


# reference 12.3-g
async def test_leaving_ends_the_session_at_the_host(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        assert (await alice.join(""))["room"] == {"roomid": ""}
        await bob.wait_for(is_event("room", "leave"))
        count = len(alice.messages)
        await bob.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": 1}})
        with pytest.raises(RequestRefused) as refused:
            await alice.request("transient", {"type": "set", "key": "k", "value": 1})
        assert refused.value.code == "not_in_room"  # by this server
        assert len(alice.messages) == count + 1


# reference 12.3-h
async def test_local_room_replaces_the_federated_one_without_stray_messages(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        count = len(alice.messages)
        await alice.join("here", "nc-alice-here")
        await bob.wait_for(is_event("room", "leave"))
        await alice.wait_for(joined(alice.session_id), since=count)
        rooms = [message["room"]["roomid"] for message in alice.messages[count:] if message["type"] == "room"]
        assert rooms == ["here"]
        count = len(bob.messages)
        await servers.join(alice, "alice")
        await bob.wait_for(is_federated, since=count)


async def test_bye_of_the_client_ends_the_session_at_the_host(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        await alice.bye()
        await bob.wait_for(is_event("room", "leave"))


# reference 12.3-i
async def test_bye_of_the_host_ends_the_session(servers: FederatedProcesses) -> None:
    async with servers.federated("alice") as alice, servers.at_home("alice") as again:
        await servers.join(again, "alice")  # with the same Nextcloud session id
        bye = await alice.wait_for(lambda message: message["type"] == "bye")
        assert bye["bye"]["reason"] == "room_session_reconnected"
        await alice.wait_closed()
        assert (await servers.home.stats())["sessions"] == 1


async def test_room_is_left_when_the_host_removes_the_session(servers: FederatedProcesses) -> None:
    async with servers.federated("alice") as alice:
        count = len(alice.messages)
        await servers.host_cloud.send(
            servers.host_url, REMOTE_ROOM, {"type": "delete", "delete": {"userids": ["alice"]}}
        )
        empty = await alice.wait_for(lambda message: message["type"] == "room", since=count)
        assert empty == {"type": "room", "room": {"roomid": ""}}
        await servers.host.wait_for_sessions(0)


# reference 12.3-k
async def test_disinvited_client_does_not_come_back_by_itself(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        await bob.wait_for(is_federated)
        count = len(bob.messages)
        request = {"type": "disinvite", "disinvite": {"sessionids": [servers.session_of("alice")]}}
        await servers.host_cloud.send(servers.host_url, REMOTE_ROOM, request)
        event = await alice.wait_for(is_event("roomlist", "disinvite"))
        assert event["event"]["disinvite"] == {"roomid": ROOM, "reason": "disinvited"}
        await alice.wait_closed()
        assert alice.messages[-1] == event
        assert (await servers.home.stats())["sessions"] == 0
        await bob.wait_for(is_event("room", "leave"), since=count)
        async with servers.federated("carol") as carol:  # later than a connection could have been resumed
            (entry,) = entries(await bob.wait_for(lambda message: bool(entries(message)), since=count))
            assert entry["userid"] == "carol"
            await carol.wait_for(joined(bob.session_id))


# reference 12.1-d
async def test_second_join_uses_the_same_connection(servers: FederatedProcesses) -> None:
    async with servers.federated("alice") as alice:
        with pytest.raises(RequestRefused) as refused:
            await servers.join(alice, "alice")
        assert refused.value.code == "already_joined"
        assert refused.value.error["details"] == {"room": {"roomid": ROOM, "properties": {"name": "remote"}}}
        other = {"roomid": "local2", "sessionid": "nc-2", "federation": servers.target("alice", "remote2")}
        reply = await alice.request("room", other)
        assert reply["room"]["roomid"] == "local2"
        left = await servers.host_cloud.wait_for(lambda request: request.body.get("action") == "leave")
        assert left.body["roomid"] == REMOTE_ROOM
        stats = await servers.host.stats()
        assert (stats["rooms"], stats["sessions"]) == (1, 1)


# reference 12.3-j
async def test_pings_name_the_session_to_its_own_nextcloud() -> None:
    # In process: a gateway sends the first pings soon after its start.
    async with two_servers() as servers, servers.federated("alice"):
        ping = await servers.home_cloud.wait_for(lambda request: request.type == "ping")
        assert ping.body["roomid"] == ROOM
        assert ping.body["entries"] == [{"userid": "alice", "sessionid": servers.session_of("alice")}]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"token": "x"}, "invalid_token"),
        ({"token": ""}, "invalid_format"),
        ({"url": ""}, "invalid_format"),
        ({"signaling": None}, "invalid_format"),
        ({"signaling": "ftp://host.example/"}, "invalid_format"),
        ({"signaling": "https://user@host.example/"}, "invalid_format"),
        ({"url": "https://unknown.example/"}, "invalid_backend"),
        ({"roomid": "r" * 600}, "limit_exceeded"),
    ],
)
async def test_refused_join_changes_nothing(servers: FederatedProcesses, change: Json, code: str) -> None:
    async with servers.at_home("alice") as alice:
        await alice.join("here", "nc-alice-here")
        federation = servers.target("alice") | change
        with pytest.raises(RequestRefused) as refused:
            await alice.request(
                "room", {"roomid": ROOM, "sessionid": servers.session_of("alice"), "federation": federation}
            )
        assert refused.value.code == code
        with pytest.raises(RequestRefused) as refused:
            await alice.join("here", "nc-alice-here")
        assert refused.value.code == "already_joined"
        await servers.host.wait_for_sessions(0)


# reference 12.1-e
async def test_host_whose_nextcloud_does_not_federate_is_refused() -> None:
    async with two_servers() as servers, servers.at_home("alice") as alice:
        servers.host_cloud.features.remove("federation-v2")
        with pytest.raises(RequestRefused) as refused:
            await servers.join(alice, "alice")
        assert refused.value.code == "federation_unsupported"


# reference 12.1-f
async def test_server_that_cannot_be_reached_is_an_error_with_details(servers: FederatedProcesses) -> None:
    async with servers.at_home("alice") as alice:
        target = servers.target("alice") | {"signaling": servers.closed_url}
        with pytest.raises(RequestRefused) as refused:
            await alice.request("room", {"roomid": ROOM, "sessionid": "nc", "federation": target})
        assert refused.value.code == "federation_error"
        assert refused.value.error["details"]["code"] == "network_error"
        assert "127.0.0.1" not in str(refused.value.error)


async def test_server_that_stops_leaves_the_rooms_of_others(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        await bob.wait_for(is_federated)
        await servers.home.stop()
        await bob.wait_for(is_event("room", "leave"))
        await alice.wait_closed()
        assert (await servers.host.stats())["sessions"] == 1


async def test_two_nextclouds_of_one_gateway_may_federate() -> None:
    # In process: the only test with this gateway.
    async with two_clouds() as servers, servers.at_host("bob") as bob, servers.federated("alice") as alice:
        await alice.wait_for(joined(bob.session_id))
        await alice.send_message(bob.session_id, {"n": 1})
        await bob.wait_for(has_data({"n": 1}))
        assert len(servers.home.hub.sessions) == 3
        await alice.join("")
        await bob.wait_for(is_event("room", "leave"))
