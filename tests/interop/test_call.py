"""A whole call through the gateway: real sockets, real HTTP to Nextcloud, real media, each SFU."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.conftest import House


async def test_two_people_see_hear_and_read_a_third_one(house: House) -> None:
    anna = await house.enter("anna", 1)
    others = [await house.enter("ben", 2), await house.enter("cleo", 3)]
    publisher = await anna.publish()
    for other in others:
        await other.ask(anna)
    for other in others:
        watched = await other.wait_for_picture(anna)
        await watched.peer.wait_for_tone(anna.frequency)
    await publisher.send_message("status", "audioOn")
    await publisher.send_message("status", b"\x00\xff")
    for other in others:
        peer = other.watched[anna.id, "video"].peer
        await peer.wait_for_message("status", "audioOn")
        await peer.wait_for_message("status", b"\x00\xff")
    assert await house.streams_on_sfu() == 3
    for member in (anna, *others):
        await member.in_call(0)
    await house.has_streams(0)


@pytest.mark.full
async def test_who_asks_before_the_publisher_is_there_is_served_when_it_comes(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await ben.ask(anna)
    await anna.publish()
    await ben.wait_for_picture(anna)


@pytest.mark.full
async def test_a_screen_is_offered_to_two_people_by_sendoffer(house: House) -> None:
    anna = await house.enter("anna", 1)
    others = [await house.enter("ben", 2), await house.enter("cleo", 3)]
    await anna.publish("screen", audio=False, channels=())
    for other in others:
        await anna.offer_to(other)
    for other in others:
        await other.wait_for_picture(anna, "screen")
    await anna.client.send_message(anna.id, {"type": "unshareScreen", "roomType": "screen"})
    await house.has_streams(0)


@pytest.mark.full
async def test_a_camera_that_is_switched_on_later_is_seen_without_asking(house: House) -> None:
    anna = await house.enter("anna", 1)
    others = [await house.enter("ben", 2), await house.enter("cleo", 3)]
    publisher = await anna.publish(video=False)
    for other in others:
        await other.ask(anna)
        await (await other.watching(anna)).peer.wait_for_tone(anna.frequency)
    sids = [other.watched[anna.id, "video"].sid for other in others]
    publisher.add_camera()
    await anna.renegotiate()
    for other in others:
        await other.wait_for_picture(anna)
    publisher.switch_camera(False)
    await anna.renegotiate()
    publisher.switch_camera(True)
    await anna.renegotiate()
    for other in others:
        await other.wait_for_picture(anna)
    assert [other.watched[anna.id, "video"].sid for other in others] == sids


@pytest.mark.full
async def test_requestoffer_refreshes_the_connection_it_names_and_else_makes_a_new_one(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await anna.publish()
    await ben.ask(anna)
    first = await ben.wait_for_picture(anna)
    await ben.ask(anna, sid=first.sid)
    await ben.until(lambda: first.offers == 2)
    assert (await ben.wait_for_picture(anna)) is first
    await ben.ask(anna, sid="another")
    second = await ben.wait_for_picture(anna, other_than=first.sid)
    await ben.ask(anna)
    await ben.wait_for_picture(anna, other_than=second.sid)
    await house.has_streams(2)


@pytest.mark.full
async def test_an_offer_that_is_never_answered_blocks_nobody(house: House) -> None:
    anna, ben, cleo = [await house.enter(name, number) for number, name in enumerate(("anna", "ben", "cleo"), 1)]
    ben.deaf = True
    publisher = await anna.publish(video=False)
    await ben.ask(anna)
    await cleo.ask(anna)
    await (await cleo.watching(anna)).peer.wait_for_tone(anna.frequency)
    publisher.add_camera()
    await anna.renegotiate()
    await cleo.wait_for_picture(anna)
    ben.deaf = False
    await ben.ask(anna)
    await ben.wait_for_picture(anna)


@pytest.mark.full
async def test_a_new_peer_connection_replaces_the_old_one_and_subscribers_follow(house: House) -> None:
    anna = await house.enter("anna", 1)
    others = [await house.enter("ben", 2), await house.enter("cleo", 3)]
    old = await anna.publish()
    for other in others:
        await other.ask(anna)
    sids = [(await other.wait_for_picture(anna)).sid for other in others]
    await anna.publish(sid="second")
    for other, sid in zip(others, sids, strict=True):
        await other.wait_for_picture(anna, other_than=sid)
    await old.ended()
    assert await house.streams_on_sfu() == 3


@pytest.mark.full
async def test_two_offers_at_once_end_in_one_publisher(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await ben.ask(anna)
    first, second = await asyncio.gather(anna.offer_anew(sid="one"), anna.offer_anew(sid="two"))
    await (second if anna.published["video"] is second else first).connected()
    await ben.wait_for_picture(anna)
    await house.has_streams(2)


@pytest.mark.full
async def test_a_replacement_while_the_first_negotiates_ends_in_one_publisher(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await ben.ask(anna)
    await anna.offer_anew(sid="one")
    await anna.publish(sid="two")
    await ben.wait_for_picture(anna)
    await house.has_streams(2)


@pytest.mark.full
async def test_leaving_the_room_closes_the_streams(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await anna.publish()
    await ben.publish()
    await ben.ask(anna)
    await anna.ask(ben)
    await ben.wait_for_picture(anna)
    await anna.wait_for_picture(ben)
    assert await house.streams_on_sfu() == 4
    await anna.client.bye()
    await house.has_streams(1)
    await ben.client.join("")
    await house.has_streams(0)


@pytest.mark.full
async def test_a_resume_does_not_touch_the_media(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    publisher = await anna.publish()
    await ben.ask(anna)
    watched = await ben.wait_for_picture(anna)
    await anna.client.connect()
    await anna.client.resume()
    await ben.client.connect()
    await ben.client.resume()
    await watched.peer.wait_for_picture(anna.number)
    assert publisher.pc.connectionState == "connected"
    publisher.switch_camera(False)
    await anna.renegotiate()
