"""Keyframe requests for a selected simulcast layer: repeated until the layer is received, a limited number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from mcu.janus.connection.messages import parse
from mcu.janus.streams.layer_switch import RETRIES, LayerSwitch
from tests.gateway.flows.virtual_time import VirtualLoop

Scenario = Callable[[LayerSwitch], Coroutine[None, None, None]]


def keyframe_requests(scenario: Scenario) -> list[float]:
    """Run a scenario in virtual time and return the times of the keyframe requests, in seconds from its start."""
    times: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        switch = LayerSwitch(lambda: times.append(round(loop.time() - start, 3)))
        await scenario(switch)
        await asyncio.sleep(60)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return times


def test_a_layer_that_is_not_received_is_requested_four_times() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.on_received(2)
        switch.select(0)

    assert keyframe_requests(scenario) == [0.4, 1.2, 2.8, 6.0]
    assert len(RETRIES) == 4


def test_a_layer_that_is_received_is_not_requested_again() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.on_received(2)
        switch.select(0)
        await asyncio.sleep(0.5)
        switch.on_received(1)
        await asyncio.sleep(0.1)
        switch.on_received(0)

    assert keyframe_requests(scenario) == [0.4]


def test_a_layer_that_is_received_already_is_not_requested() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.on_received(1)
        switch.select(1)

    assert keyframe_requests(scenario) == []


def test_a_stream_without_layers_gets_no_requests() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.select(0)

    assert keyframe_requests(scenario) == []


def test_a_selection_before_the_first_keyframe_counts() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.select(0)
        await asyncio.sleep(1)
        switch.on_received(2)
        await asyncio.sleep(0.5)
        switch.on_received(0)

    assert keyframe_requests(scenario) == [1.4]


def test_without_a_selection_and_after_the_end_there_are_no_requests() -> None:
    async def nothing_selected(switch: LayerSwitch) -> None:
        switch.on_received(2)
        switch.on_received(0)

    async def ended(switch: LayerSwitch) -> None:
        switch.on_received(2)
        switch.select(0)
        switch.stop()

    assert keyframe_requests(nothing_selected) == []
    assert keyframe_requests(ended) == []


def test_a_second_selection_starts_anew() -> None:
    async def scenario(switch: LayerSwitch) -> None:
        switch.on_received(2)
        switch.select(0)
        await asyncio.sleep(0.1)
        switch.select(2)
        await asyncio.sleep(10)
        switch.select(1)
        await asyncio.sleep(0.6)
        switch.on_received(1)

    assert keyframe_requests(scenario) == [10.5]


@pytest.mark.parametrize(("data", "substream"), [('"substream":0', 0), ('"temporal":1', None)])
def test_the_layer_is_read_from_janus_event(data: str, substream: int | None) -> None:
    message = parse(f'{{"janus":"event","sender":1,"plugindata":{{"data":{{"videoroom":"event",{data}}}}}}}')
    assert message.plugindata.data.substream == substream
