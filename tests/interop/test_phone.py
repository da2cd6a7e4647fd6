"""Phones in a call: dial-in and dial-out over a SIP bridge, with real media through each SFU."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from gateway.tools.talk_client import Json
from tests.interop.bridge import DEAF, MUTED, TALKING, Phone, SipBridge
from tests.interop.conftest import CallGateway
from tests.interop.member import ROOM, Member

NUMBER = "+4930123456"


def _is_event(message: Json, target: str, event_type: str) -> bool:
    event = message.get("event", {})
    return bool(event.get("target") == target and event.get("type") == event_type)


async def _wait_for_phone(member: Member, number: str, since: int = 0) -> str:
    """Wait until a phone has joined the room, and return its public session id."""

    def joined(message: Json) -> bool:
        if not _is_event(message, "room", "join"):
            return False
        return any(entry.get("user", {}).get("number") == number for entry in message["event"]["join"])

    message = await member.client.wait_for(joined, since=since)
    (entry,) = [entry for entry in message["event"]["join"] if entry.get("user", {}).get("number") == number]
    session: str = entry["sessionid"]
    return session


async def _send_control(member: Member, session: str, data: Json) -> None:
    body = {"recipient": {"type": "session", "sessionid": session}, "data": data}
    await member.client.send({"type": "control", "control": body})


async def _wait_for_flags(member: Member, session: str, flags: int) -> None:
    expected = {"roomid": ROOM, "sessionid": session, "flags": flags}
    await member.client.wait_for(
        lambda message: _is_event(message, "participants", "flags") and message["event"]["flags"] == expected
    )


async def _wait_for_leave(member: Member, session: str) -> None:
    await member.client.wait_for(
        lambda message: _is_event(message, "room", "leave") and message["event"]["leave"] == [session]
    )


async def _wait_for_participant(member: Member, session: str, **fields: object) -> None:
    """Wait until a list of participants has the session with these fields."""

    def listed(message: Json) -> bool:
        users = message["event"]["update"].get("users", ()) if _is_event(message, "participants", "update") else ()
        return any(user["sessionId"] == session and fields.items() <= user.items() for user in users)

    await member.client.wait_for(listed)


async def _metrics(gateway: CallGateway) -> list[str]:
    async with aiohttp.ClientSession() as http, http.get(gateway.url + "/metrics") as response:
        return (await response.text()).splitlines()


async def _exchange_audio(member: Member, bridge: SipBridge) -> None:
    """Publish and subscribe audio between a member and the bridge, which need not be in the call."""
    await member.publish(video=False, channels=())
    await bridge.publish(video=False, channels=())
    await member.request_offer(bridge)
    await bridge.request_offer(member)
    await (await member.wait_for_stream(bridge)).peer.wait_for_tone(bridge.frequency)
    await (await bridge.wait_for_stream(member)).peer.wait_for_tone(member.frequency)


async def test_phone_dials_in_exchanges_audio_is_muted_and_leaves(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    bridge = await gateway.connect_bridge()
    await bridge.client.join(ROOM)
    await _wait_for_participant(anna, bridge.id, internal=True, inCall=3)
    phone = await bridge.add_phone(ROOM, NUMBER)
    session = await _wait_for_phone(anna, NUMBER)
    await _wait_for_participant(anna, session, virtual=True, inCall=9)
    await _wait_for_flags(anna, session, TALKING)
    await _exchange_audio(anna, bridge)

    await _send_control(anna, session, {"type": "mute", "audio": MUTED | DEAF})
    await _wait_for_flags(anna, session, MUTED | DEAF)
    for digit in "4#":
        await _send_control(anna, session, {"type": "dtmf", "digit": digit})
    await bridge.until(lambda: phone.digits == ["4", "#"])

    lines = await _metrics(gateway)
    for client_type, count in {"client": 1, "internal": 1, "virtual": 1}.items():
        for name in ("signaling_hub_sessions", "signaling_room_sessions"):
            (line,) = [line for line in lines if line.startswith(name + "{") and f'clienttype="{client_type}"' in line]
            assert line.endswith(f" {count}.0"), line

    ben = await gateway.join("ben", 2)
    assert await _wait_for_phone(ben, NUMBER) == session
    await _wait_for_flags(ben, session, MUTED | DEAF)
    await bridge.remove_phone(phone)
    await _wait_for_leave(anna, session)
    await _wait_for_leave(ben, session)
    joined = await gateway.nextcloud.wait_for(lambda request: request.body.get("actorid") == NUMBER)
    assert (joined.type, joined.body["actortype"], joined.body["sessionid"]) == ("room", "phones", session)
    left = await gateway.nextcloud.wait_for(lambda request: request.body.get("actorid") == NUMBER, 2)
    assert (left.body["action"], left.body["sessionid"]) == ("leave", session)


async def test_number_is_dialled_for_a_room_and_disinvited_by_the_moderator(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    bridge = await gateway.connect_bridge("start-dialout")
    call = {"type": "dialout", "dialout": {"number": NUMBER, "options": {"caller": "Anna"}}}
    status, text = await gateway.nextcloud.send(gateway.url, ROOM, call)
    assert (status, json.loads(text)) == (200, {"type": "dialout", "dialout": {"callid": "call 1"}})
    request = {"number": NUMBER, "options": {"caller": "Anna"}}
    assert bridge.dialouts == [{"roomid": ROOM, "backend": gateway.nextcloud.url, "request": request}]
    session = await _wait_for_phone(anna, NUMBER)
    for state in ("accepted", "ringing", "connected"):
        await _wait_for_call_status(anna, state)

    await bridge.client.join(ROOM)
    await _exchange_audio(anna, bridge)
    phone: Phone = next(iter(bridge.phones.values()))
    status, _ = await gateway.nextcloud.send(
        gateway.url, ROOM, {"type": "disinvite", "disinvite": {"sessionids": [session]}}
    )
    assert status == 200
    await bridge.until(lambda: phone.hangup_reason == "disinvited")
    await _wait_for_leave(anna, session)
    await bridge.send_call_status(ROOM, "call 1", "cleared", cause="asked to")
    await _wait_for_call_status(anna, "cleared")


async def _wait_for_call_status(member: Member, status: str) -> None:
    def has_status(message: Json) -> bool:
        change = message.get("transient", {})
        return bool(change.get("key") == "callstatus_call 1" and change.get("value", {}).get("status") == status)

    await member.client.wait_for(has_status)


async def test_dialout_is_refused_by_a_busy_bridge_and_fails_without_one(gateway: CallGateway) -> None:
    bridge = await gateway.connect_bridge("start-dialout")
    bridge.accepts = lambda dialout: False
    call = {"type": "dialout", "dialout": {"number": NUMBER}}
    status, text = await gateway.nextcloud.send(gateway.url, ROOM, call)
    assert (status, json.loads(text)["dialout"]) == (502, {"error": {"code": "busy", "message": "No line."}})

    anna = await gateway.join("anna", 1)
    await bridge.add_phone(ROOM, NUMBER)
    session = await _wait_for_phone(anna, NUMBER)
    await bridge.client.bye()
    await _wait_for_leave(anna, session)
    status, text = await gateway.nextcloud.send(gateway.url, ROOM, call)
    assert status == 404
    assert "no_client_available" in text
    async with asyncio.timeout(60):
        await gateway.nextcloud.wait_for(
            lambda request: request.body.get("action") == "leave" and "actorid" in request.body
        )
