"""Chat messages to a client whose packets are dropped without a notice, directly and behind nginx (protocol.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from yarl import URL

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.edge.raw_client import PING, PONG, Json, RawClient
from tests.netns import CLIENT_ADDRESSES, SERVER_ADDRESS, TwoHosts, two_hosts
from tests.programs import nginx_command, wait_until_listening

pytestmark = pytest.mark.full

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
ROOM = "r"
SERVER = """server {{
    listen {address}:8443;
    location / {{
        proxy_pass {gateway};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
    }}
}}"""


@asynccontextmanager
async def nginx(gateway: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run nginx before a gateway; yield its address."""
    command = nginx_command(folder, SERVER.format(address=SERVER_ADDRESS, gateway=gateway))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await wait_until_listening(SERVER_ADDRESS, 8443)
        yield SERVER_ADDRESS, 8443
    finally:
        process.terminate()
        await process.wait()


def is_comment(message: Json) -> bool:
    return "event" in message and message["event"]["type"] == "message"


class ChatClient:
    """A client without ``ack`` that answers pings, as all browsers and WebSocket libraries do."""

    def __init__(self, wire: RawClient) -> None:
        self.wire = wire
        self.resume_id = ""
        self.received: list[Json] = []  # messages after the reply to the hello

    async def hello(self, body: Json) -> None:
        self.wire.send({"type": "hello", "hello": {"version": "1.0", **body}})
        while (message := await self.message())["type"] != "hello":
            pass
        self.resume_id = message["hello"]["resumeid"]
        self.received.clear()

    async def message(self) -> Json:
        """Return the next message, and answer the pings before it."""
        message = await self.wire.receive()
        while self.wire.pings:
            self.wire.send(self.wire.pings.pop(0), opcode=PONG)
        self.received.append(message)
        return message

    async def comments(self, count: int) -> list[int]:
        """Return the ids of the next chat comments."""
        ids: list[int] = []
        while len(ids) < count:
            message = await self.message()
            if is_comment(message):
                ids.append(message["event"]["message"]["data"]["chat"]["comment"]["id"])
        return ids

    def others(self) -> list[Json]:
        """Return the messages that were received, without the chat comments."""
        return [message for message in self.received if not is_comment(message)]

    async def confirm(self) -> None:
        """Answer the next ping."""
        while True:
            opcode, payload = await self.wire.frame()
            if opcode == PING:
                self.wire.send(payload, opcode=PONG)
                return


@pytest.mark.timeout(90)
@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "nginx"])
async def test_chat_messages_whose_packets_were_dropped_arrive_after_the_resume(proxy: bool, tmp_path: Path) -> None:
    with two_hosts() as hosts:
        async with FakeNextcloud(secret=SECRET) as nextcloud:
            sessions, http = SessionsSection(secret=SECRET), HttpSection(listen=(f"{SERVER_ADDRESS}:0",))
            gateway = Gateway(Config(sessions=sessions, http=http, backends=(nextcloud.backend(),)))
            (url,) = await gateway.start()
            nextcloud.gateway = url
            try:
                if proxy:
                    async with nginx(url, tmp_path) as address:
                        await lose_and_resume(hosts, nextcloud, url, address)
                else:
                    await lose_and_resume(hosts, nextcloud, url, (SERVER_ADDRESS, URL(url).port or 0))
            finally:
                await gateway.stop()


async def lose_and_resume(hosts: TwoHosts, nextcloud: FakeNextcloud, url: str, address: tuple[str, int]) -> None:
    async def request(type: str, body: Json) -> None:
        status, _ = await nextcloud.send(url, ROOM, {"type": type, type: body})
        assert status == 200

    async def say(id: int) -> None:
        data = {"type": "chat", "chat": {"comment": {"id": id, "message": "x" * 300}}}
        await request("message", {"data": data})

    async def change(name: str, in_call: int) -> None:
        """Send events other than chat: a change of properties, in two messages, and a list of participants."""
        await request("update", {"userids": ["alice"], "properties": {"name": name}})
        await request("incall", {"changed": [{"sessionId": nextcloud_session("alice"), "inCall": in_call}]})

    lost = ChatClient(await RawClient.connect(address, sock=hosts.client_socket(CLIENT_ADDRESSES[0])))
    await lost.hello({"auth": {"url": nextcloud.url, "params": nextcloud.ticket("alice")}})
    lost.wire.send({"type": "room", "room": {"roomid": ROOM, "sessionid": nextcloud_session("alice")}})
    while (await lost.message()).get("event", {}).get("type") != "join":
        pass
    await say(1)
    assert await lost.comments(1) == [1]
    await lost.confirm()
    await change("first", 1)
    lost.wire.send({"type": "message"})
    while (await lost.message())["type"] != "error":
        pass
    await say(2)
    assert await lost.comments(1) == [2]  # its ping is due within a second; the network is gone before
    hosts.drop_packets_to(CLIENT_ADDRESSES[0])
    for id in range(3, 8):
        await say(id)
    await change("second", 3)
    resumed = ChatClient(await RawClient.connect(address, sock=hosts.client_socket(CLIENT_ADDRESSES[1])))
    await resumed.hello({"resumeid": lost.resume_id})
    assert await resumed.comments(6) == [2, 3, 4, 5, 6, 7]
    await say(8)
    assert await resumed.comments(1) == [8]
    assert len(lost.others()) == 6  # reply and event of the join, two messages about the name, a list, the error
    assert [it for it in resumed.received if it in lost.received] == resumed.received[:1]  # comment 2
    (current_list,) = resumed.others()
    assert [it["inCall"] for it in current_list["event"]["update"]["users"]] == [3]
    lost.wire.writer.transport.abort()
    resumed.wire.writer.transport.abort()
