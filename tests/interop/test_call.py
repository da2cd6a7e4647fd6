"""Calls through a whole gateway: real sockets, real HTTP to Nextcloud, real media, each SFU."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.conftest import CallGateway


async def test_two_subscribers_receive_video_audio_and_data(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    others = [await gateway.join("ben", 2), await gateway.join("cleo", 3)]
    publisher = await anna.publish()
    for other in others:
        await other.request_offer(anna)
    for other in others:
        received = await other.wait_for_picture(anna)
        await received.peer.wait_for_tone(anna.frequency)
    await publisher.send_message("status", "audioOn")
    await publisher.send_message("status", b"\x00\xff")
    for other in others:
        peer = other.received[anna.id, "video"].peer
        await peer.wait_for_message("status", "audioOn")
        await peer.wait_for_message("status", b"\x00\xff")
    assert await gateway.streams_on_sfu() == 3
    for member in (anna, *others):
        await member.set_in_call(0)
    await gateway.wait_for_streams(0)


@pytest.mark.full
async def test_requestoffer_before_the_offer_is_answered_when_the_stream_is_published(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await ben.request_offer(anna)
    await anna.publish()
    await ben.wait_for_picture(anna)


@pytest.mark.full
async def test_screen_is_offered_to_two_subscribers_by_sendoffer(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    others = [await gateway.join("ben", 2), await gateway.join("cleo", 3)]
    await anna.publish("screen", audio=False, channels=())
    for other in others:
        await anna.offer_stream_to(other)
    for other in others:
        await other.wait_for_picture(anna, "screen")
    await anna.client.send_message(anna.id, {"type": "unshareScreen", "roomType": "screen"})
    await gateway.wait_for_streams(0)


@pytest.mark.full
async def test_video_added_by_renegotiation_reaches_subscribers_unrequested(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    others = [await gateway.join("ben", 2), await gateway.join("cleo", 3)]
    publisher = await anna.publish(video=False)
    for other in others:
        await other.request_offer(anna)
        await (await other.wait_for_stream(anna)).peer.wait_for_tone(anna.frequency)
    sids = [other.received[anna.id, "video"].sid for other in others]
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
    assert [other.received[anna.id, "video"].sid for other in others] == sids


@pytest.mark.full
async def test_requestoffer_refreshes_the_connection_of_its_sid_and_otherwise_creates_one(
    gateway: CallGateway,
) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await anna.publish()
    await ben.request_offer(anna)
    first = await ben.wait_for_picture(anna)
    await ben.request_offer(anna, sid=first.sid)
    await ben.until(lambda: first.offers == 2)
    assert (await ben.wait_for_picture(anna)) is first
    await ben.request_offer(anna, sid="another")
    second = await ben.wait_for_picture(anna, other_than=first.sid)
    await ben.request_offer(anna)
    await ben.wait_for_picture(anna, other_than=second.sid)
    await gateway.wait_for_streams(2)


@pytest.mark.full
async def test_unanswered_offer_blocks_no_subscription(gateway: CallGateway) -> None:
    anna, ben, cleo = [await gateway.join(name, number) for number, name in enumerate(("anna", "ben", "cleo"), 1)]
    ben.ignores_offers = True
    publisher = await anna.publish(video=False)
    await ben.request_offer(anna)
    await cleo.request_offer(anna)
    await (await cleo.wait_for_stream(anna)).peer.wait_for_tone(anna.frequency)
    publisher.add_camera()
    await anna.renegotiate()
    await cleo.wait_for_picture(anna)
    ben.ignores_offers = False
    await ben.request_offer(anna)
    await ben.wait_for_picture(anna)


@pytest.mark.full
async def test_new_peer_connection_replaces_the_old_one_and_subscribers_are_offered_it(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    others = [await gateway.join("ben", 2), await gateway.join("cleo", 3)]
    old = await anna.publish()
    for other in others:
        await other.request_offer(anna)
    sids = [(await other.wait_for_picture(anna)).sid for other in others]
    await anna.publish(sid="second")
    for other, sid in zip(others, sids, strict=True):
        await other.wait_for_picture(anna, other_than=sid)
    await old.wait_until_ended()
    assert await gateway.streams_on_sfu() == 3


@pytest.mark.full
async def test_two_concurrent_offers_result_in_one_publisher(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await ben.request_offer(anna)
    first, second = await asyncio.gather(anna.offer_new_connection(sid="one"), anna.offer_new_connection(sid="two"))
    await (second if anna.published["video"] is second else first).wait_until_connected()
    await ben.wait_for_picture(anna)
    await gateway.wait_for_streams(2)


@pytest.mark.full
async def test_offer_during_the_first_negotiation_results_in_one_publisher(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await ben.request_offer(anna)
    await anna.offer_new_connection(sid="one")
    await anna.publish(sid="two")
    await ben.wait_for_picture(anna)
    await gateway.wait_for_streams(2)


@pytest.mark.full
async def test_leaving_the_room_closes_the_streams(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await anna.publish()
    await ben.publish()
    await ben.request_offer(anna)
    await anna.request_offer(ben)
    await ben.wait_for_picture(anna)
    await anna.wait_for_picture(ben)
    assert await gateway.streams_on_sfu() == 4
    await anna.client.bye()
    await gateway.wait_for_streams(1)
    await ben.client.join("")
    await gateway.wait_for_streams(0)


@pytest.mark.full
async def test_resume_leaves_the_media_connections_open(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    publisher = await anna.publish()
    await ben.request_offer(anna)
    received = await ben.wait_for_picture(anna)
    await anna.client.connect()
    await anna.client.resume()
    await ben.client.connect()
    await ben.client.resume()
    await received.peer.wait_for_picture(anna.number)
    assert publisher.pc.connectionState == "connected"
    publisher.switch_camera(False)
    await anna.renegotiate()
