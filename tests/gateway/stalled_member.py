"""A client that joins a room and then stops reading from its socket."""

from __future__ import annotations

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.edge.raw_client import RawClient

RECEIVE_BUFFER = 4096  # bytes, SO_RCVBUF of the client's socket


async def stalled_member(url: str, cloud: FakeNextcloud, room: str, name: str) -> tuple[RawClient, str]:
    """Join a room over a socket with a small buffer and stop reading; return the client and its session id."""
    host, port = url.removeprefix("http://").split(":")
    client = await RawClient.connect((host, int(port)), receive_buffer=RECEIVE_BUFFER)
    await client.receive()  # welcome
    auth = {"url": cloud.url, "params": cloud.ticket(name)}
    client.send({"id": "hello", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
    session: str = (await client.receive())["hello"]["sessionid"]
    client.send({"id": "join", "type": "room", "room": {"roomid": room, "sessionid": nextcloud_session(name)}})
    await client.receive()
    return client, session
