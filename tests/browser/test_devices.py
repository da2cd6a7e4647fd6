"""The choice of camera, microphone and speaker before and during a call, with devices that come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage, joining_page
from tests.browser.chromium import CAMERA_GRANTED, chromium
from tests.browser.devices import LOSE_TRACK

pytestmark = pytest.mark.full

SOME_CAMERAS = "--use-fake-device-for-media-stream=device-count=4"  # the second and third have formats of their own
_SENT_DEVICE = """kind => portunus.call?.publishing.connection("video")?.getSenders()
  .find(({track}) => track?.kind === kind)?.track.getSettings().deviceId"""
_LOCAL_DESCRIPTION = "portunus.call.publishing.connection('video').localDescription.sdp.replace(/a=candidate.*/g, '')"
# The browser does not list a device, and opens none, until "plugIn" is called.
_UNPLUG = """id => {
  const {mediaDevices} = navigator;
  const list = mediaDevices.enumerateDevices.bind(mediaDevices), open = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.enumerateDevices = async () => (await list()).filter(({deviceId}) => deviceId !== id);
  mediaDevices.getUserMedia = async () => { throw new DOMException("gone", "NotFoundError"); };
  globalThis.plugIn = () => {
    Object.assign(mediaDevices, {enumerateDevices: list, getUserMedia: open});
    mediaDevices.dispatchEvent(new Event("devicechange"));
  };
  mediaDevices.dispatchEvent(new Event("devicechange"));
}"""


@pytest.fixture
async def cameras() -> AsyncIterator[Browser]:
    """Run Chromium with four fake cameras, three microphones and three speakers."""
    async with chromium(SOME_CAMERAS, CAMERA_GRANTED) as running:
        yield running


async def choose_last(page: Page, id: str) -> str:
    """Choose the last device of a list; return its id."""
    device: str = await page.evaluate("id => [...document.getElementById(id).options].at(-1).value", id)
    await page.select_option(f"#{id}", device)
    return device


async def until_sent(page: CallPage, kind: str, device: str) -> None:
    """Wait until the track that is sent is of a device."""
    await page.until(f"{kind} of {device}", f"({_SENT_DEVICE})({kind!r}) === {device!r}")


async def test_devices_are_chosen_before_and_during_a_call_and_used_again(
    cameras: Browser, inprocess_demo: Demo
) -> None:
    ada = await CallPage.open(cameras, inprocess_demo.url)
    await ada.page.click("#preview summary")
    await ada.until("the names of the cameras", "document.querySelector('#lobby-camera').options.length === 5")
    camera = await choose_last(ada.page, "lobby-camera")
    await ada.until(
        "the chosen camera in the preview",
        "document.querySelector('#preview-picture').srcObject?.getVideoTracks()[0]"
        f".getSettings().deviceId === {camera!r}",
    )
    level = "Number(document.querySelector('#preview [role=meter]').getAttribute('aria-valuenow')) > 30"
    await ada.until("a level of the microphone", level)  # the fake microphone beeps
    await ada.join("Ada")
    bob = await joining_page(cameras, inprocess_demo.url, "Bob", wanted="generated")
    await until_sent(ada, "video", camera)
    assert await ada.page.evaluate("document.querySelector('#preview-picture').srcObject === null")

    await bob.until_advances("Ada")
    negotiated = await ada.page.evaluate(_LOCAL_DESCRIPTION)
    await ada.page.click("#show-settings")
    await ada.until("a level in the settings", level.replace("#preview", "#settings"))
    microphone = await choose_last(ada.page, "call-microphone")
    await until_sent(ada, "audio", microphone)
    speaker = await choose_last(ada.page, "call-speaker")
    await ada.until("the chosen speaker", f"document.querySelector('.tile:not(.own) video').sinkId === {speaker!r}")
    await ada.page.keyboard.press("Escape")
    await bob.until_advances("Ada")
    assert await ada.page.evaluate(_LOCAL_DESCRIPTION) == negotiated

    await ada.page.evaluate(_UNPLUG, microphone)
    await ada.page.evaluate(LOSE_TRACK, "audio")
    await ada.until_notice("The microphone was unplugged")
    await bob.until_tile("Ada", "microphone muted")
    await ada.page.evaluate("plugIn()")
    await ada.until_no_notice("The microphone")
    await until_sent(ada, "audio", microphone)
    await bob.until_tile("Ada", "microphone on")

    later = await ada.page.context.new_page()
    await later.goto(inprocess_demo.url)
    for id, device in (("camera", camera), ("microphone", microphone), ("speaker", speaker)):
        assert await later.evaluate("id => document.getElementById(id).value", f"lobby-{id}") == device
    assert ada.problems + bob.problems == []


async def test_a_browser_without_a_choice_of_speaker_is_told(browser: Browser, inprocess_demo: Demo) -> None:
    page = await (await browser.new_context()).new_page()
    await page.add_init_script("delete HTMLMediaElement.prototype.setSinkId")
    await page.goto(inprocess_demo.url)
    await page.click("#preview summary")
    await page.wait_for_selector("#preview .speaker-note:visible")
    assert await page.is_disabled("#lobby-speaker")
