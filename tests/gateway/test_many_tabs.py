"""A user of 50 tabs: each has a session in a call, and a second one for the conversation that it shows meanwhile.

All come from one address, through a process of ``portunus serve`` with the limits of docs/protocol.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_client import Json, RequestRefused, TalkClient
from tests.gateway.served import served_gateway

TABS = 50
ALICE = "alice"
LATENCY = 0.05  # seconds that Nextcloud takes for an answer
LIMIT = 60.0  # seconds for a step of all tabs; a session must be resumed within 30 s


Step = Callable[["TalkTab", TalkClient], Coroutine[None, None, None]]


class TalkTab:
    """One tab: the sessions for its call and for the conversation that it shows."""

    def __init__(self, gateway: str, cloud: FakeNextcloud, number: int) -> None:
        self.call = TalkClient(gateway, cloud.url)
        self.shown = TalkClient(gateway, cloud.url)
        self.rooms = {self.call: "call", self.shown: f"shown-{number}"}
        self.sessions = {client: cloud.talk.open(room, ALICE) for client, room in self.rooms.items()}

    @property
    def clients(self) -> tuple[TalkClient, TalkClient]:
        return self.call, self.shown


async def enter(tab: TalkTab, client: TalkClient, cloud: FakeNextcloud) -> None:
    await client.hello({"token": cloud.token(ALICE, {"displayname": "Alice"})}, version="2.0")
    await client.join(tab.rooms[client], tab.sessions[client])


async def all_at_once(tabs: list[TalkTab], step: Step) -> None:
    """Run a function of tab and client for all clients at once, as when a browser is started or a laptop wakes up."""
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for tab in tabs:
            for client in tab.clients:
                group.create_task(step(tab, client))


async def check_that_all_receive(tabs: list[TalkTab], friend: TalkClient, number: int) -> None:
    """Check that a message to the user reaches the sessions of each tab, and one to the call only those in it."""
    user: Json = {"type": "user", "userid": ALICE}
    await friend.send({"type": "message", "message": {"recipient": user, "data": number}})
    await friend.send({"type": "message", "message": {"recipient": {"type": "call"}, "data": -number}})

    async def receive(tab: TalkTab, client: TalkClient) -> None:
        await client.wait_for(lambda message: message.get("message", {}).get("data") == number, limit=LIMIT)
        if client is tab.call:
            await client.wait_for(lambda message: message.get("message", {}).get("data") == -number, limit=LIMIT)

    await all_at_once(tabs, receive)
    for tab in tabs:
        assert all(message.get("message", {}).get("data") != -number for message in tab.shown.messages)
        assert all(message["type"] not in ("bye", "error") for client in tab.clients for message in client.messages)


async def test_user_of_many_tabs_calls_resumes_and_starts_anew(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, AsyncExitStack() as stack:
        cloud.latency = LATENCY
        async with served_gateway(tmp_path, cloud) as url:
            cloud.gateway = url
            tabs = [TalkTab(url, cloud, number) for number in range(TABS)]
            for tab in tabs:
                for client in tab.clients:
                    stack.push_async_callback(client.disconnect)

            async def start(tab: TalkTab, client: TalkClient) -> None:
                await client.connect()
                await enter(tab, client, cloud)

            await all_at_once(tabs, start)
            friend = await stack.enter_async_context(TalkClient(url, cloud.url))
            await friend.hello(cloud.ticket("friend"))
            session = cloud.talk.open("call", "friend")
            await friend.join("call", session)
            for one in [session, *(tab.sessions[tab.call] for tab in tabs)]:
                await cloud.talk.set_in_call("call", one, 7)
            update = await friend.wait_for(lambda message: len(in_call(message)) == TABS + 1)
            assert set(in_call(update)) == {friend.session_id, *(tab.call.session_id for tab in tabs)}
            await check_that_all_receive(tabs, friend, 1)

            async def wake_up(tab: TalkTab, client: TalkClient) -> None:
                before = client.session_id
                await client.connect()
                await client.resume()
                assert client.session_id == before

            for tab in tabs:
                for client in tab.clients:
                    await client.disconnect()
            await all_at_once(tabs, wake_up)
            await check_that_all_receive(tabs, friend, 2)
            assert sum(is_leave(request) for request in cloud.requests) == 0

        async with served_gateway(tmp_path, cloud) as restarted:  # it knows none of the sessions

            async def start_anew(tab: TalkTab, client: TalkClient) -> None:
                renewed = TalkClient(restarted, cloud.url)
                stack.push_async_callback(renewed.disconnect)
                await renewed.connect()
                renewed.resume_id = client.resume_id
                with pytest.raises(RequestRefused, match="no_such_session"):
                    await renewed.resume()
                tab.rooms[renewed], tab.sessions[renewed] = tab.rooms[client], tab.sessions[client]
                await enter(tab, renewed, cloud)

            await all_at_once(tabs, start_anew)


def in_call(message: Json) -> list[str]:
    """Return the sessions that a participants update lists in the call."""
    users = message.get("event", {}).get("update", {}).get("users", ())
    return [user["sessionId"] for user in users if user["inCall"]]


def is_leave(request: RecordedRequest) -> bool:
    return request.type == "room" and request.body.get("action") == "leave"
