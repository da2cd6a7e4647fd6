"""Media that end and begin many times: subscribers' offers reuse the sections of ended media (RFC 8829, 5.2.2)."""

from __future__ import annotations

import re

from mcu.base import PublishOptions, SubscribeOptions
from mcu.inprocess.backend import InprocessMcu
from sdp.document import Description, parse
from sdp.offer_answer import offer_violations, violations
from tests.mcu.contract.clients import KEY, SubscribingClient, sender, viewer
from tests.mcu.descriptions import parse_frozen

TOGGLES = 80


def with_camera(offer: str, mid: str, *, stopped: bool) -> Description:
    """Return an offer whose video section is stopped, or sends a camera under another mid."""
    head, _, video = offer.partition("m=video ")
    group = re.findall(r"(?m)^a=group:BUNDLE (.*?)\r$", head)[0].split()
    old = re.findall(r"(?m)^a=mid:(.*?)\r$", video)[0]
    kept = [other for other in group if other != old]
    head = re.sub(r"(?m)^a=group:BUNDLE .*\r$", f"a=group:BUNDLE {' '.join(kept + [mid] * (not stopped))}\r", head)
    video = re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{mid}\r", video, count=1)
    return parse_frozen(head + "m=video " + (re.sub(r"^\d+", "0", video) if stopped else video))


def answer_to(offer: Description, template: str) -> Description:
    """Return a subscriber's answer, with the sections of ``template`` for each media kind."""
    parts = re.split(r"(?m)^(?=m=)", template)
    sections = {part.partition(" ")[0].removeprefix("m="): part for part in parts[1:]}
    accepted = [section.mid for section in offer.media if not section.rejected]
    text = re.sub(r"(?m)^a=group:BUNDLE .*\r$", f"a=group:BUNDLE {' '.join(map(str, accepted))}\r", parts[0])
    for section in offer.media:
        part = re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{section.mid}\r", sections[section.kind])
        if section.rejected:
            part = re.sub(r"^m=(\w+) \d+ ", r"m=\1 0 ", part)
        if section.direction == "inactive":
            part = re.sub(r"(?m)^a=(recvonly|sendrecv)\r$", "a=inactive\r", part)
        text += part
    return parse_frozen(text)


async def subscribed(mcu: InprocessMcu, carol: SubscribingClient) -> tuple[Description, str]:
    """Subscribe and return the offer and the answer to it."""
    carol.subscriber, offer = await mcu.subscribe(KEY, SubscribeOptions(), carol)
    answer = await carol.peer.answer(offer)
    await carol.subscriber.accept(parse_frozen(answer))
    carol.answers = False
    return offer, answer


async def test_offers_do_not_grow_with_a_camera_that_ends_and_begins(mcu: InprocessMcu) -> None:
    async with sender(31, channels=()) as alice, viewer() as carol:
        text = await alice.peer.offer()
        alice.publisher, answer = await mcu.publish(KEY, parse_frozen(text), PublishOptions(), alice)
        await alice.peer.accept(answer)
        offer, template = await subscribed(mcu, carol)
        mids = {section.mid for section in offer.media}
        for count in range(TOGGLES):
            for stopped in (True, False):
                await alice.publisher.update(with_camera(text, f"camera-{count}", stopped=stopped))
                assert carol.subscriber is not None
                before, offer = offer, carol.offers[-1]
                assert offer_violations(offer, before) == []
                answer = answer_to(offer, template)
                assert violations(offer, answer) == []
                await carol.subscriber.accept(answer)
            assert [section.kind for section in offer.media] == ["audio", "video"]
            assert not offer.media[1].rejected
            assert offer.media[1].mid not in mids
            mids.add(offer.media[1].mid)
        assert len(carol.offers) == 2 * TOGGLES
        await carol.peer.wait_for_tone(440.0)


async def test_section_is_not_reused_before_the_client_has_answered_its_end(mcu: InprocessMcu) -> None:
    async with sender(32, channels=()) as alice, viewer() as carol:
        text = await alice.peer.offer()
        alice.publisher, answer = await mcu.publish(KEY, parse_frozen(text), PublishOptions(), alice)
        await alice.peer.accept(answer)
        first, template = await subscribed(mcu, carol)
        subscriber = carol.subscriber
        assert subscriber is not None
        await alice.publisher.update(with_camera(text, "a", stopped=True))
        await alice.publisher.update(with_camera(text, "a", stopped=False))
        unanswered = carol.offers[-1]
        assert [section.rejected for section in unanswered.media] == [False, True]
        now = await subscriber.refresh()
        assert [section.rejected for section in now.media] == [False, True, False]
        assert offer_violations(now, unanswered) == []
        await subscriber.accept(answer_to(first, template))  # late, and not an answer to the end
        again = await subscriber.refresh()
        assert [section.mid for section in again.media] == [section.mid for section in now.media]
        await subscriber.accept(answer_to(again, template))
        await alice.publisher.update(with_camera(text, "b", stopped=True))
        await subscriber.accept(answer_to(carol.offers[-1], template))
        await alice.publisher.update(with_camera(text, "b", stopped=False))
        assert len(carol.offers[-1].media) == len(now.media)
        assert offer_violations(carol.offers[-1], parse(str(again))) == []


async def test_first_section_stays_when_its_medium_has_ended(mcu: InprocessMcu) -> None:
    async with sender(33, audio=False, channels=()) as alice, viewer() as carol:
        text = await alice.peer.offer()
        alice.publisher, answer = await mcu.publish(KEY, parse_frozen(text), PublishOptions(), alice)
        await alice.peer.accept(answer)
        _, template = await subscribed(mcu, carol)
        subscriber = carol.subscriber
        assert subscriber is not None
        for count in range(3):
            for stopped in (True, False):
                await alice.publisher.update(with_camera(text, f"camera-{count}", stopped=stopped))
                await subscriber.accept(answer_to(carol.offers[-1], template))
        last = carol.offers[-1]
        assert [section.rejected for section in last.media] == [False, False]
        assert [section.direction for section in last.media] == ["inactive", "sendonly"]


async def test_role_of_an_offer_for_another_transport_is_answered(mcu: InprocessMcu) -> None:
    async with sender(34, channels=()) as alice:
        text = await alice.peer.offer()
        assert text.count("a=setup:actpass") == 2
        alice.publisher, answer = await mcu.publish(KEY, parse_frozen(text), PublishOptions(), alice)
        head, first, rest = text.partition("m=audio ")
        first_stopped = re.sub(r"(?m)^(a=group:BUNDLE) \S+ ", r"\1 ", head) + first + re.sub(r"^\d+", "0", rest)
        for offer, setup, answered in (
            (first_stopped, "active", "passive"),
            (text, "passive", "active"),
            (first_stopped, "actpass", "active"),
            (text, "active", "passive"),
            (text, "actpass", "passive"),
        ):
            answer = await alice.publisher.update(parse_frozen(offer.replace("setup:actpass", f"setup:{setup}")))
            assert {section.attribute("setup") for section in answer.media if not section.rejected} == {answered}
