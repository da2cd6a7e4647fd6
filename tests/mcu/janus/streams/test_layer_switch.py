"""A chosen layer that does not come is asked for again, and not for ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine

import pytest

from mcu.janus.connection.messages import parse
from mcu.janus.streams.descriptions import rid_order
from mcu.janus.streams.layer_switch import AGAIN, LayerSwitch
from tests.gateway.flows.virtual_time import VirtualLoop
from tests.mcu.descriptions import described
from tests.sdp.recorded import FIXTURES

Story = Callable[[LayerSwitch], Coroutine[None, None, None]]


def asked(story: Story) -> list[float]:
    """Run a story in virtual time and return when keyframes were asked for, in seconds from its begin."""
    times: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        switch = LayerSwitch(lambda: times.append(round(loop.time() - start, 3)))
        await story(switch)
        await asyncio.sleep(60)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return times


def test_a_layer_that_does_not_come_is_asked_for_some_times() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.show(2)
        switch.want(0)

    assert asked(story) == [0.4, 1.2, 2.8, 6.0]
    assert len(AGAIN) == 4


def test_a_layer_that_comes_is_asked_for_no_more() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.show(2)
        switch.want(0)
        await asyncio.sleep(0.5)
        switch.show(1)
        await asyncio.sleep(0.1)
        switch.show(0)

    assert asked(story) == [0.4]


def test_a_layer_that_is_there_is_not_asked_for() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.show(1)
        switch.want(1)

    assert asked(story) == []


def test_nothing_is_asked_where_there_are_no_layers() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.want(0)

    assert asked(story) == []


def test_a_choice_made_before_the_first_picture_counts() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.want(0)
        await asyncio.sleep(1)
        switch.show(2)
        await asyncio.sleep(0.5)
        switch.show(0)

    assert asked(story) == [1.4]


def test_nothing_is_asked_without_a_choice_or_after_the_end() -> None:
    async def chose_nothing(switch: LayerSwitch) -> None:
        switch.show(2)
        switch.show(0)

    async def ended(switch: LayerSwitch) -> None:
        switch.show(2)
        switch.want(0)
        switch.stop()

    assert asked(chose_nothing) == []
    assert asked(ended) == []


def test_a_second_choice_is_followed_anew() -> None:
    async def story(switch: LayerSwitch) -> None:
        switch.show(2)
        switch.want(0)
        await asyncio.sleep(0.1)
        switch.want(2)
        await asyncio.sleep(10)
        switch.want(1)
        await asyncio.sleep(0.6)
        switch.show(1)

    assert asked(story) == [10.5]


@pytest.mark.parametrize(("data", "substream"), [('"substream":0', 0), ('"temporal":1', None)])
def test_janus_tells_which_layer_comes(data: str, substream: int | None) -> None:
    message = parse(f'{{"janus":"event","sender":1,"plugindata":{{"data":{{"videoroom":"event",{data}}}}}}}')
    assert message.plugindata.data.substream == substream


@pytest.mark.parametrize(
    ("rids", "order"),
    [("h m l", "hml"), ("q h f", "lmh"), ("l m h", "lmh"), ("a b c", "hml"), ("h q f", ""), ("q", "")],
)
def test_janus_is_told_which_layer_is_the_lowest(rids: str, order: str) -> None:
    recorded = (FIXTURES / "chromium" / "simulcast.offer.sdp").read_text()
    before = "h;m;l"
    assert before in recorded
    offer = recorded.replace(before, ";".join(rids.split()))
    offer = re.sub(r"a=rid:\w+ send", "", offer) + "".join(f"a=rid:{rid} send\r\n" for rid in rids.split())
    assert rid_order(described(offer)) == order


def test_nothing_is_said_of_an_offer_without_layers() -> None:
    assert rid_order(described((FIXTURES / "chromium" / "camera.offer.sdp").read_text())) == ""
