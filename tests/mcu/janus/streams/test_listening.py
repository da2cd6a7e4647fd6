"""``mcu.janus.streams.listening``: what a listener may rely on."""

from __future__ import annotations

import asyncio

from mcu.base import Candidate, CloseReason, MediaKind
from mcu.janus.streams.listening import Ear
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import Heard


async def test_nothing_is_said_before_the_verb_has_returned_and_then_all_in_order() -> None:
    heard = Heard()
    ear = Ear(heard)

    async def verb() -> str:
        ear.say(lambda listener: listener.on_media(MediaKind.AUDIO, True))
        ear.say(lambda listener: listener.on_candidate(Candidate("candidate:1")))
        ear.open_soon()
        return "result"

    assert await verb() == "result"
    assert heard.media == []
    await asyncio.sleep(0)
    assert (heard.media, heard.candidates) == ([(MediaKind.AUDIO, True)], [Candidate("candidate:1")])


async def test_an_end_before_the_verb_has_returned_is_said_after_it() -> None:
    heard = Heard()
    ear = Ear(heard)
    ear.open_soon()
    ear.end(CloseReason.LOST)
    ear.say(lambda listener: listener.on_offer(described("too late")))
    await asyncio.sleep(0)
    assert (heard.closed, heard.offers) == ([CloseReason.LOST], [])


async def test_nothing_is_said_after_the_end() -> None:
    heard = Heard()
    ear = Ear(heard)
    ear.open_soon()
    await asyncio.sleep(0)
    ear.end(CloseReason.FAILED)
    ear.end(CloseReason.LOST)
    ear.say(lambda listener: listener.on_offer(described("too late")))
    assert (heard.closed, heard.offers) == ([CloseReason.FAILED], [])


async def test_an_owner_that_ended_the_stream_hears_nothing_more() -> None:
    heard = Heard()
    ear = Ear(heard)
    ear.say(lambda listener: listener.on_offer(described("kept")))
    ear.open_soon()
    ear.end(None)
    await asyncio.sleep(0)
    assert (heard.closed, heard.offers) == ([], [])
