"""Bitrate limits, preferred codecs, and the SFU's reports about its streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mcu.base import HistogramSample, MediaKind, PublishOptions, StreamKey, StreamReport, StreamType
from tests.mcu.contract.clients import KEY, PublishingClient, sender, viewer
from tests.mcu.contract.sfus import Sfu

POLL_INTERVAL = 0.05  # seconds between two evaluations of a condition on a figure
TIME_LIMIT = 60.0  # seconds


async def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Wait until a condition on a figure holds."""
    try:
        async with asyncio.timeout(TIME_LIMIT):
            while not condition():  # noqa: ASYNC110 - no event is sent when a figure changes
                await asyncio.sleep(POLL_INTERVAL)
    except TimeoutError:
        raise AssertionError(f"not within {TIME_LIMIT} s: {description}") from None


def bitrate(client: PublishingClient) -> int:
    """Return the target bitrate of the client's encoder."""
    return client.peer.video_bitrate or 0


async def test_limit_reaches_the_publisher_at_once_and_is_removed(sfu: Sfu) -> None:
    async with sender(41) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(41)
        await alice.publisher.limit(300_000)
        await wait_until(lambda: 250_000 <= bitrate(alice) <= 300_000, "300 kbit/s")
        await alice.publisher.limit(0)
        await wait_until(lambda: bitrate(alice) > 1_000_000, "no limit")


async def test_ceiling_of_the_stream_holds_without_a_limit(sfu: Sfu) -> None:
    async with sender(42) as alice:
        await alice.publish(sfu.mcu, KEY, PublishOptions(bitrate=400_000))
        await wait_until(lambda: 300_000 <= bitrate(alice) <= 400_000, "400 kbit/s")
        await alice.publisher.limit(280_000)
        await wait_until(lambda: bitrate(alice) <= 280_000, "280 kbit/s")
        await alice.publisher.limit(0)
        await wait_until(lambda: 300_000 <= bitrate(alice) <= 400_000, "400 kbit/s again")


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_preferred_video_codec_is_sent(sfu: Sfu, codec: str) -> None:
    async with sender(43) as alice, viewer() as carol:
        await alice.publish(sfu.mcu, KEY, PublishOptions(videocodecs=(codec,)))
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(43)
        assert codec in {report.codec for report in sfu.mcu.streams() if report.kind is MediaKind.VIDEO}


@pytest.mark.parametrize("codec", ["g722", "pcmu", "pcma"])
async def test_preferred_audio_codec_is_sent(sfu: Sfu, codec: str) -> None:
    async with sender(47, 500.0, video=False, channels=()) as alice, viewer() as carol:
        await alice.publish(sfu.mcu, KEY, PublishOptions(audiocodecs=(codec,)))
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_tone(500.0)
        await wait_until(lambda: codec in {report.codec for report in sfu.mcu.streams()}, f"a report of {codec}")


async def test_published_audio_and_video_are_reported_with_their_codecs(sfu: Sfu) -> None:
    async with sender(44) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(44)

        def stream_reports(kind: MediaKind, subscriber: bool) -> list[StreamReport]:
            return [r for r in sfu.mcu.streams() if r.key == KEY and r.kind is kind and r.subscriber is subscriber]

        await wait_until(
            lambda: len(stream_reports(MediaKind.AUDIO, False)) == len(stream_reports(MediaKind.VIDEO, False)) == 1,
            "reports",
        )
        assert stream_reports(MediaKind.AUDIO, False)[0].codec == "opus"
        assert stream_reports(MediaKind.VIDEO, False)[0].codec == "vp8"


async def test_flowing_media_are_counted(sfu: Sfu) -> None:
    screen = StreamKey(KEY.backend, KEY.publisher, StreamType.SCREEN)

    def counted_samples() -> list[dict[tuple[str, ...], float | HistogramSample]]:
        metrics = {metric.name: dict(metric.samples) for metric in sfu.mcu.metrics()}
        return [metrics["publisher_streams"], metrics["subscriber_streams"]]

    async with sender(48) as alice, sender(49, audio=False, channels=()) as shared, viewer() as carol:
        await alice.publish(sfu.mcu)
        await shared.publish(sfu.mcu, screen)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(48)
        published = {("audio",): 1, ("video",): 1, ("screen",): 1}
        await wait_until(
            lambda: counted_samples() == [published, {("audio",): 1, ("video",): 1}], "the media of both streams"
        )
        await alice.publisher.close()
        await shared.publisher.close()
        assert counted_samples() == [{}, {}]
