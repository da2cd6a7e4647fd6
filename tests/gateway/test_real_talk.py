"""Faults that a real Talk once revealed, tested with the fake Nextcloud and a whole gateway."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.tools.talk_notifier import NotCarriedOut
from gateway.tools.talk_rooms import Permission, nextcloud_session
from tests.gateway.federated import REMOTE_ROOM, ROOM, two_servers
from tests.gateway.running import running_gateway

CALLERS = 1000


@pytest.fixture
async def cloud() -> AsyncIterator[FakeNextcloud]:
    """Yield a Nextcloud with a gateway."""
    async with FakeNextcloud() as fake, running_gateway(fake):
        yield fake


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def join(cloud: FakeNextcloud, client: TalkClient, userid: str) -> str:
    await client.hello(cloud.ticket(userid))
    session = cloud.talk.open("r", userid)
    await client.join("r", session)
    return session


async def test_wrong_secret_is_logged_in_both_directions(
    cloud: FakeNextcloud, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.secret = "another secret"
    with pytest.raises(NotCarriedOut, match="403"):
        await cloud.talk.send_message("r", {})
    async with TalkClient(cloud.gateway, cloud.url) as client:
        with pytest.raises(RequestRefused, match="invalid_request"):
            await client.hello(cloud.ticket("alice"))
    of_gateway, of_nextcloud = warnings(caplog)
    assert "for backend cloud at " in of_gateway
    assert "compare the secret of [[backend]] cloud" in of_gateway
    assert "compare the secret of [[backend]] cloud" in of_nextcloud
    assert "ended with HTTP status 200: error invalid_request" in of_nextcloud


async def test_unknown_backend_is_logged(cloud: FakeNextcloud, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Spreed-Signaling-Backend": "http://localhost/"}  # as occ sends it without overwrite.cli.url
    status, _ = await cloud.send(cloud.gateway, "r", {"type": "message", "message": {"data": {}}}, headers)
    assert status == 403
    (line,) = warnings(caplog)
    assert "rooms API are refused: no backend is configured for http://localhost/; the nearest URL is " in line
    assert f"{cloud.url} of backend cloud, the host differs: " in line


@pytest.mark.parametrize("userid", ["alice", ""])
async def test_usual_ends_of_sessions_are_not_logged(
    cloud: FakeNextcloud, caplog: pytest.LogCaptureFixture, userid: str
) -> None:
    async with TalkClient(cloud.gateway, cloud.url) as client:
        await cloud.talk.remove("r", await join(cloud, client, userid))
        assert await client.wait_closed() is not None
    async with TalkClient(cloud.gateway, cloud.url) as client:
        await join(cloud, client, userid)
        await cloud.talk.delete("r")
        await client.wait_for(lambda message: message.get("room") == {"roomid": ""})
    await cloud.wait_for(lambda request: request.body.get("action") == "leave", 2)
    assert warnings(caplog) == []


async def test_user_receives_the_deletion_event_before_the_room_is_deleted(cloud: FakeNextcloud) -> None:
    async with TalkClient(cloud.gateway, cloud.url) as client:
        await join(cloud, client, "alice")
        start = len(client.messages)
        await cloud.talk.delete("r")
        await client.wait_for(lambda message: message.get("room") == {"roomid": ""}, since=start)
        event, room = client.messages[start:]
        assert event["event"]["disinvite"] == {"roomid": "r", "reason": "deleted"}
        assert room["type"] == "room"


@pytest.mark.parametrize("changes_only", [False, True])
async def test_members_without_a_session_are_not_listed_for_clients(cloud: FakeNextcloud, changes_only: bool) -> None:
    async with TalkClient(cloud.gateway, cloud.url) as client:
        own = await join(cloud, client, "alice")
        await cloud.talk.set_in_call("r", own, 7)
        cloud.notifier.changes_only = changes_only
        await cloud.talk.set_permissions_of_user("r", "bob", Permission.CUSTOM)
        await cloud.talk.send_message("r", {"last": True})
        await client.wait_for(lambda message: "last" in str(message))
        lists = [
            it["event"]["update"]["users"] for it in client.messages if it.get("event", {}).get("type") == "update"
        ]
        listed = [[(user["sessionId"], user["inCall"]) for user in users] for users in lists]
        assert listed == [[(client.session_id, 7)]] * (1 if changes_only else 2)


async def test_federated_user_joins_with_the_token_and_session_id_of_talk() -> None:
    async with two_servers() as servers, servers.at_host("bob") as bob, servers.at_home("alice") as alice:
        cloud = servers.host_cloud
        cloud.gateway = servers.host_url
        session = cloud.talk.open(REMOTE_ROOM, "alice", cloud_id=f"alice@{servers.home_cloud.url.rstrip('/')}")
        federation = cloud.federation(servers.proxy.url, REMOTE_ROOM, "alice")
        await alice.request("room", {"roomid": ROOM, "sessionid": session, "federation": federation})
        request = await cloud.wait_for(lambda request: request.body.get("sessionid") == session)
        assert "actorid" not in request.body  # Talk knows the person by the session
        await cloud.talk.set_in_call(REMOTE_ROOM, session, 7)
        for client in (alice, bob):
            update = await client.wait_for(lambda message: message.get("event", {}).get("target") == "participants")
            (entry,) = [user for user in update["event"]["update"]["users"] if user["inCall"] == 7]
            assert (entry["sessionId"] == alice.session_id) is (client is alice)
            assert "userId" not in entry or client is alice


@pytest.mark.parametrize("changes_only", [False, True])
async def test_call_of_a_thousand_is_within_the_limit_of_a_body(cloud: FakeNextcloud, changes_only: bool) -> None:
    async with TalkClient(cloud.gateway, cloud.url) as client:
        own = await join(cloud, client, "alice")
        room = cloud.talk.room("r")
        for number in range(CALLERS):
            session = nextcloud_session(f"caller {number}")
            room.open(session, room.add("users", f"user-{number}"), 0.0)
            room.sessions[session].in_call = 7
        cloud.notifier.changes_only = changes_only
        await cloud.talk.set_in_call("r", own, 7)
        await client.wait_for(lambda message: message.get("event", {}).get("target") == "participants")
