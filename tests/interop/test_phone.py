"""Phones in a call: a bridge that dials out and is dialled into, with real media through each SFU."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from gateway.tools.talk_client import Json
from tests.interop.bridge import DEAF, MUTED, TALKING, Bridge, Phone
from tests.interop.conftest import House
from tests.interop.member import ROOM, Member

NUMBER = "+4930123456"


def _is(message: Json, target: str, kind: str) -> bool:
    event = message.get("event", {})
    return bool(event.get("target") == target and event.get("type") == kind)


async def _arrival(member: Member, number: str, since: int = 0) -> str:
    """Wait until a phone has come into the room, and return its public id."""

    def came(message: Json) -> bool:
        if not _is(message, "room", "join"):
            return False
        return any(it.get("user", {}).get("number") == number for it in message["event"]["join"])

    message = await member.client.wait_for(came, since=since)
    (entry,) = [it for it in message["event"]["join"] if it.get("user", {}).get("number") == number]
    id: str = entry["sessionid"]
    return id


async def _control(member: Member, session: str, data: Json) -> None:
    body = {"recipient": {"type": "session", "sessionid": session}, "data": data}
    await member.client.send({"type": "control", "control": body})


async def _flags(member: Member, session: str, flags: int) -> None:
    told = {"roomid": ROOM, "sessionid": session, "flags": flags}
    await member.client.wait_for(
        lambda message: _is(message, "participants", "flags") and message["event"]["flags"] == told
    )


async def _left(member: Member, session: str) -> None:
    await member.client.wait_for(
        lambda message: _is(message, "room", "leave") and message["event"]["leave"] == [session]
    )


async def _listed(member: Member, session: str, **members: object) -> None:
    """Wait until the participants that were told of last have this entry."""

    def listed(message: Json) -> bool:
        users = message["event"]["update"].get("users", ()) if _is(message, "participants", "update") else ()
        return any(it["sessionId"] == session and members.items() <= it.items() for it in users)

    await member.client.wait_for(listed)


async def _metrics(house: House) -> list[str]:
    async with aiohttp.ClientSession() as http, http.get(house.url + "/metrics") as response:
        return (await response.text()).splitlines()


async def _hear_each_other(member: Member, bridge: Bridge) -> None:
    """Let the member and the bridge, which need not be in the call, take each other's sound."""
    await member.publish(video=False, channels=())
    await bridge.publish(video=False, channels=())
    await member.ask(bridge)
    await bridge.ask(member)
    await (await member.watching(bridge)).peer.wait_for_tone(bridge.frequency)
    await (await bridge.watching(member)).peer.wait_for_tone(member.frequency)


async def test_somebody_dials_in_is_heard_muted_and_leaves(house: House) -> None:
    anna = await house.enter("anna", 1)
    bridge = await house.bridge()
    await bridge.client.join(ROOM)
    await _listed(anna, bridge.id, internal=True, inCall=3)
    phone = await bridge.ring(ROOM, NUMBER)
    session = await _arrival(anna, NUMBER)
    await _listed(anna, session, virtual=True, inCall=9)
    await _flags(anna, session, TALKING)
    await _hear_each_other(anna, bridge)

    await _control(anna, session, {"type": "mute", "audio": MUTED | DEAF})
    await _flags(anna, session, MUTED | DEAF)
    for digit in "4#":
        await _control(anna, session, {"type": "dtmf", "digit": digit})
    await bridge.until(lambda: phone.digits == ["4", "#"])

    figures = await _metrics(house)
    for kind, count in {"client": 1, "internal": 1, "virtual": 1}.items():
        for name in ("signaling_hub_sessions", "signaling_room_sessions"):
            (line,) = [it for it in figures if it.startswith(name + "{") and f'clienttype="{kind}"' in it]
            assert line.endswith(f" {count}.0"), line

    ben = await house.enter("ben", 2)
    assert await _arrival(ben, NUMBER) == session
    await _flags(ben, session, MUTED | DEAF)
    await bridge.hang_up(phone)
    await _left(anna, session)
    await _left(ben, session)
    joined = await house.nextcloud.wait_for(lambda seen: seen.body.get("actorid") == NUMBER)
    assert (joined.type, joined.body["actortype"], joined.body["sessionid"]) == ("room", "phones", session)
    left = await house.nextcloud.wait_for(lambda seen: seen.body.get("actorid") == NUMBER, 2)
    assert (left.body["action"], left.body["sessionid"]) == ("leave", session)


async def test_a_number_is_dialled_for_a_room_and_hung_up_by_the_moderator(house: House) -> None:
    anna = await house.enter("anna", 1)
    bridge = await house.bridge("start-dialout")
    call = {"type": "dialout", "dialout": {"number": NUMBER, "options": {"caller": "Anna"}}}
    status, text = await house.nextcloud.send(house.url, ROOM, call)
    assert (status, json.loads(text)) == (200, {"type": "dialout", "dialout": {"callid": "call 1"}})
    request = {"number": NUMBER, "options": {"caller": "Anna"}}
    assert bridge.orders == [{"roomid": ROOM, "backend": house.nextcloud.url, "request": request}]
    session = await _arrival(anna, NUMBER)
    for state in ("accepted", "ringing", "connected"):
        await _call_is(anna, state)

    await bridge.client.join(ROOM)
    await _hear_each_other(anna, bridge)
    phone: Phone = next(iter(bridge.phones.values()))
    status, _ = await house.nextcloud.send(
        house.url, ROOM, {"type": "disinvite", "disinvite": {"sessionids": [session]}}
    )
    assert status == 200
    await bridge.until(lambda: phone.hung_up == "disinvited")
    await _left(anna, session)
    await bridge.report(ROOM, "call 1", "cleared", cause="asked to")
    await _call_is(anna, "cleared")


async def _call_is(member: Member, status: str) -> None:
    def told(message: Json) -> bool:
        change = message.get("transient", {})
        return bool(change.get("key") == "callstatus_call 1" and change.get("value", {}).get("status") == status)

    await member.client.wait_for(told)


async def test_a_bridge_without_a_line_and_one_that_goes_away(house: House) -> None:
    bridge = await house.bridge("start-dialout")
    bridge.accepts = lambda order: False
    call = {"type": "dialout", "dialout": {"number": NUMBER}}
    status, text = await house.nextcloud.send(house.url, ROOM, call)
    assert (status, json.loads(text)["dialout"]) == (502, {"error": {"code": "busy", "message": "No line."}})

    anna = await house.enter("anna", 1)
    await bridge.ring(ROOM, NUMBER)
    session = await _arrival(anna, NUMBER)
    await bridge.client.bye()
    await _left(anna, session)
    status, text = await house.nextcloud.send(house.url, ROOM, call)
    assert status == 404
    assert "no_client_available" in text
    async with asyncio.timeout(10):
        await house.nextcloud.wait_for(lambda seen: seen.body.get("action") == "leave" and "actorid" in seen.body)
