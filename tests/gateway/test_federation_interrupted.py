"""Interruptions between the gateway of a client and the one that hosts its room.

The tests share two processes of ``portunus serve``, and each leaves no session there. A test that says so runs the
gateways in its own process, because it changes or reads their inside.

Source: reference 12.3.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.acknowledged import FEATURE as ACK
from gateway.flows.federation import remote_session
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.wire import token
from tests.gateway.federated import ROOM, two_servers
from tests.gateway.federated_processes import FederatedProcesses, two_processes
from tests.gateway.numbered_messages import has_number, received_numbers, send_numbers
from tests.gateway.test_federation import has_data, is_event, is_federated, joined

COUNT = 200  # messages in each direction
VALIDITY = 3.0  # seconds for which the host accepts a token that expires

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FederatedProcesses]:
    rules = "message_bytes = 65_536\n"  # of the test of this limit; the others stay far below
    async with two_processes(tmp_path_factory.mktemp("processes"), rules=rules) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def servers(processes: FederatedProcesses) -> AsyncIterator[FederatedProcesses]:
    async with processes.shared():
        yield processes


def federation_events(client: TalkClient) -> list[Any]:
    events = [message["event"] for message in client.messages if message["type"] == "event"]
    return [event.get("resumed", event["type"]) for event in events if event["type"].startswith("federation_")]


async def remote_id(bob: TalkClient) -> str:
    """Return the id at the host of the federated session that bob has seen joining last."""
    await bob.wait_for(is_federated)
    found: str = [message for message in bob.messages if is_federated(message)][-1]["event"]["join"][0]["sessionid"]
    return found


def check_new_join(client: TalkClient, since: int) -> None:
    """Check that the messages from index ``since`` on are those of a lost session at the host and of a new one."""
    seen = [message for message in client.messages[since:] if message["type"] in ("room", "event")]
    assert [message.get("event", message)["type"] for message in seen] == [
        "federation_interrupted",
        "federation_resumed",
        "room",
        "join",
    ]
    assert seen[1]["event"]["resumed"] is False
    assert "id" not in seen[2]
    assert seen[2]["room"]["roomid"] == ROOM


# reference 12.3-a
@pytest.mark.parametrize("seed", range(2))
async def test_no_message_is_lost_or_duplicated_when_the_connection_breaks(
    servers: FederatedProcesses, seed: int
) -> None:
    rng = random.Random(seed)
    async with servers.at_host("bob") as bob:
        servers.budgets.extend([rng.randrange(4000, 12_000) for _ in range(4)])
        async with servers.federated("alice") as alice:
            await asyncio.gather(
                send_numbers(bob, await remote_id(bob), COUNT), send_numbers(alice, bob.session_id, COUNT)
            )
            await asyncio.gather(
                alice.wait_for(has_number(COUNT - 1), limit=60.0), bob.wait_for(has_number(COUNT - 1), limit=60.0)
            )
            assert received_numbers(alice) == received_numbers(bob) == list(range(COUNT))
            assert servers.proxy.cuts >= 3
            assert federation_events(alice)[:2] == ["federation_interrupted", True]
            assert set(federation_events(alice)) == {"federation_interrupted", True}


# reference 12.3-a
async def test_messages_of_the_interruption_are_sent_in_order_after_it(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        to = await remote_id(bob)
        servers.proxy.cut()
        await alice.wait_for(is_event("room", "federation_interrupted"))
        for number in range(20):
            await alice.send_message(bob.session_id, {"n": number})
            await bob.send_message(to, {"n": number})
        resumed = await alice.wait_for(is_event("room", "federation_resumed"))
        assert resumed == {"type": "event", "event": {"target": "room", "type": "federation_resumed", "resumed": True}}
        await bob.wait_for(has_data({"n": 19}))
        await alice.wait_for(has_data({"n": 19}))
        assert received_numbers(alice) == received_numbers(bob) == list(range(20))
        assert not any(message.get("event", {}).get("type") == "leave" for message in bob.messages)


# reference 12.3-b
async def test_host_without_ack_resumes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    # In process: Portunus always announces the feature.
    monkeypatch.setattr(remote_session, "ACK", "unknown")
    async with two_servers() as servers, servers.at_host("bob") as bob, servers.federated("alice") as alice:
        to = await remote_id(bob)
        assert not any(ACK in session.features for session in servers.host.hub.sessions.values())
        for cut in range(2):
            count = len(alice.messages)
            servers.proxy.cut()
            await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
            await alice.send_message(bob.session_id, {"n": 2 * cut})
            resumed = await alice.wait_for(is_event("room", "federation_resumed"), since=count)
            assert resumed["event"]["resumed"]
            await bob.wait_for(has_data({"n": 2 * cut}))
            await bob.send_message(to, {"n": 2 * cut + 1})
            await alice.wait_for(has_data({"n": 2 * cut + 1}))
        assert received_numbers(bob) == [0, 2]


# reference 12.3-c
async def test_host_that_lost_the_session_is_joined_anew() -> None:
    # In process, to be quick: a new gateway is there sooner than a new process.
    async with two_servers() as servers, servers.federated("alice") as alice:
        count = len(alice.messages)
        await servers.restart_host()
        await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
        await alice.send_message("x", {"n": 1})  # for the lost session: dropped
        await alice.wait_for(joined(alice.session_id), since=count)
        check_new_join(alice, count)
        async with servers.at_host("bob") as bob:
            await alice.wait_for(joined(bob.session_id), since=count)
            await alice.send_message(bob.session_id, {"n": 2})
            await bob.wait_for(has_data({"n": 2}))
            await bob.send_message(await remote_id(bob), {"n": 3})
            await alice.wait_for(has_data({"n": 3}))


# reference 12.3-c
@pytest.mark.full
async def test_host_that_was_killed_is_joined_anew_when_it_is_back(servers: FederatedProcesses) -> None:
    async with servers.federated("alice") as alice:
        for number in range(2):
            count = len(alice.messages)
            await servers.host.kill()
            await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
            await alice.send_message("x", {"n": -1})  # for the lost session: dropped
            await servers.host.start()
            await alice.wait_for(joined(alice.session_id), since=count)
            check_new_join(alice, count)
            async with servers.at_host("bob") as bob:
                await alice.wait_for(joined(bob.session_id), since=count)
                await alice.send_message(bob.session_id, {"n": 2 * number})
                await bob.wait_for(has_data({"n": 2 * number}))
                assert received_numbers(bob) == [2 * number]
                await bob.send_message(await remote_id(bob), {"n": 2 * number + 1})
                await alice.wait_for(has_data({"n": 2 * number + 1}))
            await alice.wait_for(is_event("room", "leave"), since=count)


# reference 12.3-d
async def test_expired_token_ends_the_room_but_not_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    # In process, with another leeway, to save the time until a token really expires.
    async with two_servers() as servers, servers.at_home("alice") as alice:
        await servers.join(alice, "alice", iat=time.time() - 1000)
        count = len(alice.messages)
        with monkeypatch.context() as later:
            later.setattr(token, "LEEWAY", -400.0)  # the token, valid for 300 s more, has expired
            await servers.restart_host()
            await alice.wait_for(lambda message: message["type"] == "error", since=count)
        error = await alice.wait_for(lambda message: message["type"] == "error", since=count)
        assert (error["error"]["code"], "id" in error) == ("token_expired", False)
        empty = await alice.wait_for(lambda message: message["type"] == "room", since=count)
        assert empty == {"type": "room", "room": {"roomid": ""}}
        await servers.join(alice, "alice")


# reference 12.3-d
@pytest.mark.full
async def test_token_that_expires_while_the_host_is_dead_ends_the_room(servers: FederatedProcesses) -> None:
    async with servers.at_home("alice") as alice:
        end = time.time() + VALIDITY
        await servers.join(alice, "alice", iat=end - 300.0, exp=end - token.LEEWAY)
        count = len(alice.messages)
        await servers.host.kill()
        await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
        await asyncio.sleep(end - time.time())
        await servers.host.start()
        error = await alice.wait_for(lambda message: message["type"] == "error", since=count)
        assert (error["error"]["code"], "id" in error) == ("token_expired", False)
        empty = await alice.wait_for(lambda message: message["type"] == "room", since=count)
        assert empty == {"type": "room", "room": {"roomid": ""}}
        assert federation_events(alice) == ["federation_interrupted"]
        await servers.join(alice, "alice")  # with a new token
        async with servers.at_host("bob") as bob:
            await alice.wait_for(joined(bob.session_id), since=count)
            await alice.send_message(bob.session_id, {"n": 1})
            await bob.wait_for(has_data({"n": 1}))


# reference 12.3-e
@pytest.mark.parametrize("leave", ["leave", "local room", "bye", "other room"])
async def test_client_may_go_while_the_host_is_away(leave: str) -> None:
    # In process: the gateway must not keep a connection to the host for the client.
    async with two_servers() as servers, servers.federated("alice") as alice:
        count = len(alice.messages)
        await servers.host.stop()
        await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
        if leave == "leave":
            assert (await alice.join(""))["room"] == {"roomid": ""}
        elif leave == "local room":
            assert (await alice.join("here", "nc"))["room"]["roomid"] == "here"
        elif leave == "bye":
            await alice.bye()
        else:
            with pytest.raises(RequestRefused) as refused:
                await servers.join(alice, "alice")
            assert refused.value.code == "federation_error"
            assert len(servers.home.hub.seated) == 1  # the client stays, and may leave
            return
        await servers.restart_host()
        assert servers.home.hub.seated == {}
        async with servers.at_host("bob"):
            assert [session.userid for session in servers.host.hub.sessions.values()] == ["bob"]


# reference 12.3-f
async def test_too_many_kept_messages_end_the_session_at_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    # In process, with another limit, which no configuration changes.
    monkeypatch.setattr(remote_session, "MAX_KEPT_MESSAGES", 10)
    async with two_servers() as servers, servers.at_host("bob") as bob, servers.federated("alice") as alice:
        count = len(alice.messages)
        servers.proxy.cut()
        await alice.wait_for(is_event("room", "federation_interrupted"), since=count)
        for number in range(11):
            await alice.send_message(bob.session_id, {"n": number})
        await alice.wait_for(joined(alice.session_id), since=count)
        assert federation_events(alice) == ["federation_interrupted", False]
        await alice.send_message(bob.session_id, {"n": 100})
        await bob.wait_for(has_data({"n": 100}))
        assert received_numbers(bob) == [100]  # no gap inside a session


async def test_resume_of_the_client_does_not_interrupt_its_session_at_the_host(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob, servers.federated("alice") as alice:
        to = await remote_id(bob)
        await alice.disconnect()
        await bob.send_message(to, {"n": 1})
        await alice.connect()
        await alice.resume()
        await alice.wait_for(has_data({"n": 1}))
        assert federation_events(alice) == []


# reference 12.3-o
# attack: a participant who makes the host send its federated participants a huge message
async def test_message_above_the_limit_is_left_out(servers: FederatedProcesses) -> None:
    async with servers.at_host("bob") as bob:
        for key in ("a", "b", "c"):
            await bob.send({"type": "transient", "transient": {"type": "set", "key": key, "value": "x" * 30_000}})
            await bob.wait_for(lambda message: message["type"] == "transient", since=len(bob.messages))
        async with servers.federated("alice") as alice:
            await alice.wait_for(joined(bob.session_id))
            await bob.send_message(await remote_id(bob), {"n": 1})
            await alice.wait_for(has_data({"n": 1}))
            assert federation_events(alice) == ["federation_interrupted", True]
            assert not any(message["type"] == "transient" for message in alice.messages)
