"""Calls in real browsers: video, audio, states, screens, codecs and bitrate."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import WAIT, CallPage
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.browser.conftest import demo_with, inprocess, janus
from tests.janus_process import JanusProcess


async def join_all(browser: Browser, demo: Demo, *names: str, **choices: str) -> list[CallPage]:
    """Open a page for each name, join one after another, and return when each page shows all members."""
    pages = []
    for name in names:
        page = await CallPage.open(browser, demo.url)
        await page.join(name, **choices)
        pages.append(page)
    others = len(names) - 1
    for page in pages:
        await page.until_state(f"Connected, in the call with {others} other")
    return pages


async def see_and_hear_each_other(pages: dict[str, CallPage]) -> None:
    for own, page in pages.items():
        for name in pages.keys() - {own}:
            await page.until_advances(name)
            await page.until_audio_received(name)


async def test_two_people_see_and_hear_each_other(browser: Browser) -> None:
    async with demo_with(inprocess()) as demo:
        ada, bob = await join_all(browser, demo, "Ada", "Bob")
        await see_and_hear_each_other({"Ada": ada, "Bob": bob})
        await ada.page.click("#mute")
        await bob.until_tile("Ada", "microphone muted", "camera on")
        await bob.until_people("Ada", "muted, camera on")
        await ada.page.click("#leave")
        await bob.until_no_tile("Ada")
        await bob.until_state("nobody else is in the call")
        assert ada.problems + bob.problems == []


@pytest.mark.full
async def test_a_third_person_joins_a_running_call(browser: Browser, demo: Demo) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob")
    await see_and_hear_each_other({"Ada": ada, "Bob": bob})
    cleo = await CallPage.open(browser, demo.url)
    await cleo.join("Cleo")
    await cleo.until_state("in the call with 2 others")
    await see_and_hear_each_other({"Ada": ada, "Bob": bob, "Cleo": cleo})
    await cleo.until_people("Ada", "Bob", "Cleo (you)")
    await bob.until_tile_showed("Ada", "speaking")  # the fake microphone beeps
    assert ada.problems + bob.problems + cleo.problems == []


# Limits timers as browsers do for a page in the background (HTML, "timers", leaves the limit to the browser).
BACKGROUND = """
const real = setInterval;
globalThis.setInterval = (work, pause, ...more) => real(work, Math.max(pause, 1000), ...more);
"""


@pytest.mark.full
async def test_a_page_in_the_background_sends_the_state_speaking(browser: Browser) -> None:
    async with demo_with(inprocess()) as demo:
        ada, bob = [await CallPage.open(browser, demo.url) for _ in range(2)]
        await ada.page.add_init_script(BACKGROUND)
        await ada.page.reload()
        for page, name in ((ada, "Ada"), (bob, "Bob")):
            await page.join(name)
        await bob.until_advances("Ada")
        await bob.until_tile_showed("Ada", "speaking", wait=5)  # the fake microphone beeps
        await ada.page.click("#mute")
        await bob.until_tile("Ada", "microphone muted")
        assert ada.problems + bob.problems == []


@pytest.mark.full
async def test_states_arrive_through_a_janus_without_the_data_channel_module(browser: Browser) -> None:
    async with JanusProcess(DATACHANNELS="") as process, demo_with(janus(process)) as demo:
        ada, bob = await join_all(browser, demo, "Ada", "Bob")
        await ada.page.click("#mute")
        await bob.until_tile("Ada", "microphone muted", "camera on")


@pytest.mark.full
async def test_a_camera_switched_off_and_on_is_shown_to_the_others(browser: Browser, demo: Demo) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob")
    await bob.until_advances("Ada")
    await ada.page.click("#camera")
    await bob.until_tile("Ada", "camera off")
    await ada.page.click("#camera")
    await bob.until_tile("Ada", "camera on")
    await bob.until_advances("Ada")


@pytest.mark.full
async def test_a_camera_added_to_a_call_without_one_reaches_the_others(browser: Browser, demo: Demo) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob", wanted="audio")
    await bob.until_audio_received("Ada")
    await ada.page.click("#camera")
    await bob.until_tile("Ada", "camera on")
    await bob.until_advances("Ada")


@pytest.mark.full
async def test_a_shared_screen_reaches_present_and_later_members(browser: Browser, demo: Demo) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob")
    await ada.page.click("#share")
    await bob.until_advances("Ada's screen")
    await bob.until_people("Ada", "shares the screen")
    cleo = await CallPage.open(browser, demo.url)
    await cleo.join("Cleo")
    await cleo.until_advances("Ada's screen")
    await ada.page.click("#share")
    for page in (bob, cleo):
        await page.until_no_tile("Ada's screen")
        await page.until_advances("Ada")


@pytest.mark.full
@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_chosen_codec_is_sent_and_received(browser: Browser, demo: Demo, codec: str) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob", **{"lobby-videocodec": codec})
    await see_and_hear_each_other({"Ada": ada, "Bob": bob})
    for stats in (await ada.sent(), await bob.received("Ada"), await bob.sent(), await ada.received("Bob")):
        assert stats["codec"].lower() == f"video/{codec}"
    await bob.page.click("[aria-label*='quality of Ada:']")
    await bob.until("figures of Ada's stream", f"document.body.innerText.toLowerCase().includes('{codec} ·')")


@pytest.mark.full
async def test_choosing_another_codec_during_the_call_publishes_again(browser: Browser, demo: Demo) -> None:
    ada, bob = await join_all(browser, demo, "Ada", "Bob", **{"lobby-videocodec": "vp8"})
    await bob.until_advances("Ada")
    await ada.page.click("#show-settings")
    await ada.page.select_option("#call-videocodec", "h264")
    await ada.page.click("#settings button[value=apply]")
    await bob.until(
        "H.264 from Ada",
        """(async () => {
          const ada = portunus.call.others()[0].sessionId;
          const report = await portunus.call.receiving.connection(ada, "video").getStats();
          const entry = [...report.values()].find(one => one.type === "inbound-rtp" && one.kind === "video");
          return report.get(entry?.codecId)?.mimeType === "video/H264" && entry.framesDecoded > 5;
        })()""",
    )
    await bob.until_advances("Ada")


# The target bitrate of the encoder of the page's camera, in bit/s; the bitrate that it sends depends on the machine.
TARGET_BITRATE = """portunus.call.publishing.connection("video").getStats().then(report => [...report.values()]
  .find(one => one.type === "outbound-rtp" && one.kind === "video")?.targetBitrate ?? 0)"""


@pytest.fixture
async def noisy_browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """Run Chromium with a camera that shows noise, for which an encoder uses any bitrate that it may."""
    picture = tmp_path / "noise.y4m"
    write_noise(picture)
    async with chromium(FAKE_DEVICES, CAMERA_GRANTED, f"--use-file-for-fake-video-capture={picture}") as running:
        yield running


def write_noise(path: Path) -> None:
    width, height, frames = 320, 240, 20
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F20:1 Ip A1:1 C420jpeg\n".encode())
        for _ in range(frames):
            file.write(b"FRAME\n" + os.urandom(width * height * 3 // 2))


@pytest.mark.full
async def test_a_chosen_bitrate_is_not_exceeded(noisy_browser: Browser, demo: Demo) -> None:
    ada = await CallPage.open(noisy_browser, demo.url)
    await ada.join("Ada", **{"lobby-bitrate": "200000"})
    bob = await CallPage.open(noisy_browser, demo.url)
    await bob.join("Bob")
    await ada.until_advances("Bob")
    await bob.until_advances("Ada")
    await bob.until("a target above 250 kbit/s without a limit", f"{TARGET_BITRATE}.then(target => target > 250_000)")
    await ada.until("a target within the limit", f"{TARGET_BITRATE}.then(target => 0 < target && target <= 200_000)")
    before = await ada.sent()
    async with asyncio.timeout(WAIT):
        while (now := await ada.sent())["framesEncoded"] < before["framesEncoded"] + 10:
            assert now["targetBitrate"] <= 200_000
