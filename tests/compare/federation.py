"""Federation with the Go server: the same steps between two Go servers, and with Portunus in place of each of them.

The messages to clients and both Nextclouds are compared with the messages between two Go servers; so a difference
belongs to the role that Portunus has. A step that a server does not carry out times out, and counts as different.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.compare.federation_servers import ServerPair, server_pair
from tests.compare.player import Difference
from tests.conversations.player import Json
from tests.gateway.federated import REMOTE_ROOM, ROOM
from tests.media.peers import PublishingPeer, SubscribingPeer

KEPT_MESSAGES = 3  # messages in each direction during an interruption
LIMIT = 12.0  # seconds of each wait within a step
ROLES = {"local": (False, True), "host": (True, False)}  # the role of Portunus: whether local server and host are Go
FAILED_STEP = "the step, which fails,"  # in place of a recipient; a difference even if it fails with all servers
REPETITIONS = 2  # times; a message that is sent more often counts as sent this often
GO_ONLY = (True, True)

Step = Callable[[ServerPair], Awaitable[None]]
Results = dict[str, dict[str, Counter[str]]]  # by step and recipient


async def compare(binary: Path, janus: str) -> list[Difference]:
    """Play the steps with each combination of servers; ``janus`` is the URL of the SFU of all servers."""
    of_go, *of_portunus = await asyncio.gather(*(_play(binary, janus, roles) for roles in (GO_ONLY, *ROLES.values())))
    return [it for role, results in zip(ROLES, of_portunus, strict=True) for it in _differences(role, of_go, results)]


async def _play(binary: Path, janus: str, roles: tuple[bool, bool]) -> Results:
    results: Results = {}
    async with server_pair(binary, janus, roles) as servers:
        for step in STEPS:
            name = step_name(step)
            failed = ""
            try:
                await step(servers)
            except (TimeoutError, AssertionError, OSError, KeyError, IndexError) as error:
                failed = f"{type(error).__name__} {error}"
            results[name] = await servers.results()
            if failed:
                results[name][FAILED_STEP] = Counter([failed])
    return results


def step_name(step: Step) -> str:
    """Return the name of a step in the table of differences, where it follows the role."""
    return step.__name__.strip("_").replace("_", "-")


def _differences(role: str, of_go: Results, of_portunus: Results) -> list[Difference]:
    found = []
    for number, step in enumerate(of_go):
        for recipient in {**of_go[step], **of_portunus[step]}:
            with_go, with_portunus = (it[step].get(recipient, Counter()) for it in (of_go, of_portunus))
            for text in sorted(with_go.keys() | with_portunus.keys()):
                if recipient == FAILED_STEP or min(with_go[text], REPETITIONS) != min(with_portunus[text], REPETITIONS):
                    times = f"{with_portunus[text]} times with Portunus, {with_go[text]} times without"
                    found.append(Difference(f"{role}-{step}", number, f"{recipient} receives, {times}: {text}"))
    return found


# -- the steps, in order


async def _join(servers: ServerPair) -> None:
    bob = await servers.enter("bob", servers.host, "chat-relay")
    await bob.join(REMOTE_ROOM, "nc-bob")
    await servers.enter("alice", servers.home, "chat-relay")
    await servers.join("alice")


async def _join_of_another(servers: ServerPair) -> None:
    await servers.enter("carol", servers.home)
    await servers.join("carol")


async def _messages(servers: ServerPair) -> None:
    alice, bob = servers.clients["alice"], servers.clients["bob"]
    recipients: list[Json] = [
        *({"type": "session", "sessionid": id} for id in (bob.session_id, alice.session_id, servers.remote_id)),
        {"type": "user", "userid": "bob"},
        {"type": "room"},
        {"type": "call"},
    ]
    for recipient in recipients:
        for type in ("message", "control"):
            await _send(alice, type, recipient, {"type": "test", "n": type})
    for recipient in ({"type": "session", "sessionid": servers.remote_id}, {"type": "user", "userid": "alice"}):
        for type in ("message", "control"):
            await _send(bob, type, recipient, {"type": "test", "n": type})


async def _force_mute(servers: ServerPair) -> None:
    bob, recipient = servers.clients["bob"], {"type": "session", "sessionid": servers.remote_id}
    mute = {"action": "forceMute", "peerId": servers.remote_id}
    await _send(bob, "control", recipient, mute)
    await _send(bob, "message", recipient, {"type": "control", "payload": mute})
    await _send(bob, "message", recipient, {"type": "forceMute", "payload": mute, "to": servers.remote_id})


async def _transient(servers: ServerPair) -> None:
    alice, bob = servers.clients["alice"], servers.clients["bob"]
    for client, key in ((alice, f"sd:{alice.session_id}"), (bob, f"sd:{bob.session_id}"), (alice, "k"), (bob, "k")):
        await client.send({"type": "transient", "transient": {"type": "set", "key": key, "value": {"a": key == "k"}}})
        await asyncio.sleep(0.2)
    await servers.enter("dora", servers.home)
    await servers.join("dora")
    await asyncio.sleep(0.5)
    await alice.send({"type": "transient", "transient": {"type": "remove", "key": "k"}})
    await asyncio.sleep(0.2)
    await servers.clients["dora"].join("")


async def _chat(servers: ServerPair) -> None:
    home = servers.home.cloud.url.rstrip("/")
    comment = {
        "id": 7,
        "token": REMOTE_ROOM,
        "actorType": "federated_users",
        "actorId": f"alice@{home.partition('//')[2]}",
        "message": "{mention-user1} {mention-user2} {mention-call1}",
        "messageParameters": {
            "mention-user1": {"type": "user", "id": "alice", "name": "Alice", "server": home},
            "mention-user2": {"type": "user", "id": "bob", "name": "Bob"},
            "mention-call1": {"type": "call", "id": REMOTE_ROOM, "name": "remote"},
        },
        "parent": {"id": 6, "token": REMOTE_ROOM, "actorType": "users", "actorId": "bob", "message": "hi"},
    }
    for data in ({"refresh": True}, {"refresh": True, "comment": comment}):
        await _request(servers, "message", {"data": {"type": "chat", "chat": data}})
    await _request(servers, "message", {"data": {"type": "other", "x": 1}})


def _users(servers: ServerPair, in_call: int) -> list[Json]:
    home = servers.home.cloud.url.partition("//")[2].rstrip("/")
    return [
        {"sessionId": "nc-alice", "inCall": in_call, "actorType": "federated_users", "actorId": f"alice@{home}"},
        {"sessionId": "nc-bob", "inCall": in_call, "userId": "bob", "actorType": "users", "actorId": "bob"},
    ]


async def _participants(servers: ServerPair) -> None:
    users = [it | {"participantType": 1} for it in _users(servers, 0)]
    await _request(servers, "participants", {"changed": users[:1], "users": users})


async def _incall(servers: ServerPair) -> None:
    users = _users(servers, 7)
    await _request(servers, "incall", {"incall": 7, "changed": users, "users": users})


async def _media(servers: ServerPair) -> None:
    """Publish from each side, and subscribe at the other; all media travel through the SFU of the host."""
    alice, bob = servers.clients["alice"], servers.clients["bob"]
    async with PublishingPeer(1, 440.0, channels=()) as camera, PublishingPeer(2, 880.0, channels=()) as other:
        await _publish(alice, camera)
        await _publish(bob, other)
        async with SubscribingPeer() as at_bob, SubscribingPeer() as at_alice:
            await _subscribe(bob, servers.remote_id, at_bob)
            await at_bob.wait_for_picture(camera.number, LIMIT)
            await _subscribe(alice, bob.session_id, at_alice)
            await at_alice.wait_for_picture(other.number, LIMIT)


async def _virtual_session(servers: ServerPair) -> None:
    """Add a participant as an internal client of the host, change its flags, and remove it."""
    bridge = await servers.enter_internal("bridge")
    await bridge.join(REMOTE_ROOM)
    phone = {"sessionid": "phone", "roomid": REMOTE_ROOM}
    for type, body in (("addsession", {"flags": 1}), ("updatesession", {"flags": 2}), ("removesession", {})):
        await bridge.send({"type": "internal", "internal": {"type": type, type: phone | body}})
        await asyncio.sleep(0.3)
    await bridge.bye()


async def _room_events(servers: ServerPair) -> None:
    await _request(servers, "update", {"userids": ["alice", "bob"], "properties": {"name": "new"}})
    await _request(servers, "invite", {"userids": ["alice"], "alluserids": ["alice", "bob"], "properties": {"n": 1}})


async def _switchto(servers: ServerPair) -> None:
    await _request(servers, "switchto", {"roomid": "another", "sessions": ["nc-alice", "nc-bob"]})


async def _incall_all(servers: ServerPair) -> None:
    await _request(servers, "incall", {"incall": 7, "all": True})
    await _request(servers, "incall", {"incall": 0, "all": True})


async def _interruption(servers: ServerPair) -> None:
    alice, bob = servers.clients["alice"], servers.clients["bob"]
    since = len(alice.messages)
    servers.proxy.cut()
    await alice.wait_for(lambda it: _event(it) == "federation_interrupted", since=since, limit=LIMIT)
    for number in range(
        KEPT_MESSAGES
    ):  # without pauses: a Go server may lose messages that it gets while it connects again
        await alice.send_message(bob.session_id, {"type": "test", "kept": number})
    await asyncio.sleep(0.1)  # until a Go server as host has noticed the loss, too, even on a busy machine
    for number in range(KEPT_MESSAGES):
        await _send(
            bob, "message", {"type": "session", "sessionid": servers.remote_id}, {"type": "test", "kept": number}
        )
    await alice.wait_for(lambda it: _event(it) == "federation_resumed", since=since, limit=LIMIT)


async def _after_interruption(servers: ServerPair) -> None:
    for name in ("alice", "bob"):
        relayed = [it["message"]["data"] for it in servers.clients[name].messages if it["type"] == "message"]
        kept = [data["kept"] for data in relayed if isinstance(data, dict) and "kept" in data]
        # A local Go server sends the messages that it has kept in another order now and then.
        assert servers.home_is_go or kept == list(range(KEPT_MESSAGES)), f"{name} has received {kept}"
    await _send(servers.clients["alice"], "message", {"type": "room"}, {"type": "test"})
    await _send(servers.clients["bob"], "message", {"type": "room"}, {"type": "test"})


async def _join_again(servers: ServerPair) -> None:
    with contextlib.suppress(RequestRefused):
        await servers.join("alice")


async def _other_room(servers: ServerPair) -> None:
    await servers.join("carol", "second", "nc-carol-2", roomid="remote2")


async def _leave(servers: ServerPair) -> None:
    await servers.clients["carol"].join("")


async def _local_room(servers: ServerPair) -> None:
    await servers.join("carol")
    await servers.clients["carol"].join("here", "nc-carol-here")


async def _from_local_room(servers: ServerPair) -> None:
    await servers.join("carol")


async def _bye(servers: ServerPair) -> None:
    await servers.clients["carol"].bye()


async def _errors(servers: ServerPair) -> None:
    expired = servers.host.cloud.token("gina", exp=1)
    for name, change in (
        ("eve", {"token": "x"}),
        ("gina", {"token": expired}),
        ("hans", {"url": "https://unknown.example/"}),
        ("ida", {"signaling": servers.host.cloud.url}),  # no signaling server
        ("jan", {"token": ""}),
    ):
        client = await servers.enter(name, servers.home)
        await client.join(f"here-{name}", f"nc-{name}-here")
        with contextlib.suppress(RequestRefused):
            await servers.join(name, **change)


async def _unknown_room(servers: ServerPair) -> None:
    servers.host.cloud.refuse_unknown_rooms = True
    await servers.enter("kim", servers.home)
    with contextlib.suppress(RequestRefused):
        await servers.join("kim", roomid="unknown")


async def _disinvite(servers: ServerPair) -> None:
    await servers.enter("frank", servers.home)
    await servers.join("frank")
    await asyncio.sleep(0.5)
    await _request(servers, "disinvite", {"sessionids": ["nc-frank"], "alluserids": ["bob"], "properties": {"n": 2}})
    await asyncio.sleep(1.0)  # a local server that joins again has joined
    if servers.clients["frank"].close_code is None:
        await servers.clients["frank"].bye()


async def _restart_of_the_host(servers: ServerPair) -> None:
    alice = servers.clients["alice"]
    since = len(alice.messages)
    await servers.host.restart()
    await alice.wait_for(lambda it: _event(it) == "federation_resumed", since=since, limit=LIMIT)
    await alice.wait_for(lambda it: _event(it) == "join", since=since, limit=LIMIT)


async def _bye_of_the_host(servers: ServerPair) -> None:
    await servers.enter("alice2", servers.home, userid="alice")
    target = servers.target("alice")
    room = {"roomid": ROOM, "sessionid": "nc-alice", "federation": target}
    await servers.clients["alice2"].request("room", room)
    await servers.clients["alice"].wait_closed()


STEPS: tuple[Step, ...] = (
    *(_join, _join_of_another, _messages, _force_mute, _transient, _chat, _participants, _incall, _media),
    *(_virtual_session,),
    *(_room_events, _switchto, _incall_all, _interruption, _after_interruption, _join_again, _other_room, _leave),
    *(_local_room, _from_local_room, _bye, _errors, _unknown_room, _disinvite),
    *(_restart_of_the_host, _bye_of_the_host),
)


# -- parts of steps


async def _send(client: TalkClient, type: str, recipient: Json, data: Json) -> None:
    await client.send({"type": type, type: {"recipient": recipient, "data": data}})
    await asyncio.sleep(0.05)  # the next message does not overtake it


async def _request(servers: ServerPair, type: str, body: Json) -> None:
    status, text = await servers.host.cloud.send(servers.host.url, REMOTE_ROOM, {"type": type, type: body})
    assert status == 200, text
    await asyncio.sleep(0.2)


def _event(message: Json) -> str:
    return str(message["event"]["type"]) if message["type"] == "event" else ""


def _is_description(type: str, sender: str) -> Callable[[Json], bool]:
    def matches(message: Json) -> bool:
        data = message["message"]["data"] if message["type"] == "message" else {}
        return isinstance(data, dict) and (data.get("type"), data.get("from")) == (type, sender)

    return matches


async def _publish(client: TalkClient, peer: PublishingPeer) -> None:
    data = {"to": client.session_id, "roomType": "video", "sid": "1", "type": "offer"}
    await client.send_message(
        client.session_id, data | {"payload": {"type": "offer", "sdp": await peer.offer(), "nick": "n"}}
    )
    answer = await client.wait_for(_is_description("answer", client.session_id), limit=LIMIT)
    await peer.accept(answer["message"]["data"]["payload"]["sdp"])
    await peer.wait_until_connected(LIMIT)


async def _subscribe(client: TalkClient, publisher: str, peer: SubscribingPeer) -> None:
    data = {"roomType": "video", "to": publisher, "sid": "2"}
    await client.send_message(publisher, data | {"type": "requestoffer"})
    offer = (await client.wait_for(_is_description("offer", publisher), limit=LIMIT))["message"]["data"]
    answer = {"type": "answer", "sdp": await peer.answer(offer["payload"]["sdp"])}
    await client.send_message(publisher, data | {"sid": offer["sid"], "type": "answer", "payload": answer})
    await peer.wait_until_connected(LIMIT)
