"""The page without a device, media, a stream or the gateway: its texts and its recovery."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import pytest
from playwright.async_api import Browser

from gateway.config import McuSection
from gateway.tools.demo import Demo
from tests.browser.call_page import joining_page
from tests.browser.chromium import CAMERA_DENIED, CAMERA_GRANTED, FAKE_DEVICES, NO_CAMERA, chromium
from tests.browser.conftest import demo_with, inprocess, janus
from tests.browser.devices import LOSE_DEVICE
from tests.browser.network import MEDIA_ADDRESS, MediaRelay, SignalingRelay
from tests.frozen_process import freeze
from tests.janus_process import JanusProcess
from tests.ports import lease_block

ROOM = "kitchen"
OUTAGE = 10.0  # seconds
pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((FAKE_DEVICES, CAMERA_DENIED), "told not to let this page use the camera and microphone"),
        ((CAMERA_GRANTED,), "No camera or microphone was found"),
        ((NO_CAMERA, CAMERA_GRANTED), "No camera was found"),
    ],
    ids=["permission denied", "no device", "no camera"],
)
async def test_without_devices_the_page_sends_a_generated_picture(
    browser: Browser, inprocess_demo: Demo, flags: tuple[str, ...], sentence: str
) -> None:
    async with chromium(*flags) as without:
        ada = await joining_page(without, inprocess_demo.url, "Ada")
        bob = await joining_page(browser, inprocess_demo.url, "Bob")
        await ada.until_notice(sentence)
        await bob.until_advances("Ada")
        await bob.until_tile("Ada", "microphone on" if NO_CAMERA in flags else "microphone muted", "camera on")
        await ada.until_advances("Bob")


async def test_a_lost_microphone_is_shown_as_off_and_cannot_be_switched_on(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await joining_page(browser, inprocess_demo.url, "Ada")
    bob = await joining_page(browser, inprocess_demo.url, "Bob")
    await bob.until_tile("Ada", "microphone on", "camera on")
    await ada.page.evaluate(LOSE_DEVICE, "audio")
    await bob.until_tile("Ada", "microphone muted", "camera on")
    await ada.page.click("#mute")
    await ada.until_notice("No microphone was found")
    await ada.page.click("text=Try again")  # the device is still missing
    await ada.page.evaluate(LOSE_DEVICE, "video")
    await bob.until_tile("Ada", "microphone muted", "camera off")
    shown = [text for text in await bob.shown_texts("tiles") if text.startswith("Ada, ")]
    since_loss = shown[[("muted" in text) for text in shown].index(True) :]
    assert not [text for text in since_loss if "microphone on" in text]


async def test_a_listener_gets_a_notice_and_receives_the_others(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await joining_page(browser, inprocess_demo.url, "Ada", wanted="listen")
    bob = await joining_page(browser, inprocess_demo.url, "Bob")
    await ada.until_notice("You take part as a listener")
    await ada.until_advances("Bob")
    await bob.until_people("Ada", "listening")
    assert await ada.page.is_disabled("#mute")


async def test_a_missing_stream_is_named(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await joining_page(browser, inprocess_demo.url, "Ada")
    await ada.until_state("Connected")
    async with silent_participant(inprocess_demo.url, "Zoe"):
        await ada.until_notice("does not find the stream of Zoe (client_not_found)")
        await ada.until_tile("Zoe")
    await ada.until_no_notice("Zoe")


@asynccontextmanager
async def silent_participant(url: str, name: str) -> AsyncIterator[None]:
    """Enter the call with the flags for audio and video, and publish neither."""
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}spreed") as socket:
        participant = {"name": name, "room": ROOM, "person": "silent-participant-of-the-test"}
        async with client.post(f"{url}demo/api/join", json=participant) as response:
            ticket = await response.json()
        auth = {"url": ticket["url"], "params": {"ticket": ticket["ticket"]}}
        await socket.send_json({"id": "1", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        await wait_for_reply(socket, "1")
        room = {"roomid": ticket["roomid"], "sessionid": ticket["session"]}
        await socket.send_json({"id": "2", "type": "room", "room": room})
        await wait_for_reply(socket, "2")
        async with client.post(f"{url}demo/api/call", json={"session": ticket["session"], "flags": 7}) as response:
            assert response.status == 200
        yield
        await socket.send_json({"type": "bye"})


async def wait_for_reply(socket: aiohttp.ClientWebSocketResponse, id: str) -> None:
    async with asyncio.timeout(60):
        while (await socket.receive_json()).get("id") != id:
            pass


async def test_media_that_cannot_connect_are_reported_and_retried(browser: Browser) -> None:
    async with network("inprocess") as (demo, media):
        media.cut = True
        ada = await joining_page(browser, demo.url, "Ada")
        await ada.until_state("Connecting picture and sound")
        await ada.until_notice("The media connection failed: your picture and sound do not reach the server")
        assert not any(state.startswith("Connected") for state in await ada.shown_texts("state"))
        bob = await joining_page(browser, demo.url, "Bob")
        await bob.until_tile("Ada")
        media.cut = False
        await bob.until_advances("Ada")
        await ada.until_no_notice("The media connection failed")


@asynccontextmanager
async def network(sfu: str) -> AsyncIterator[tuple[Demo, MediaRelay]]:
    """Run a demo gateway whose media pass a relay that can be cut; yield both."""
    async with AsyncExitStack() as stack:
        block = stack.enter_context(lease_block())
        first, last = block.first, block.first + 39
        if sfu == "inprocess":
            settings = inprocess().settings
            there = {"announced_address": MEDIA_ADDRESS, "port_min": first, "port_max": last}
            section = McuSection(type=sfu, settings=msgspec.structs.replace(settings, **there))
        else:
            ports = {"PUBLIC_ADDRESS": MEDIA_ADDRESS, "RTP_PORTS": f"{first}-{last}"}
            section = janus(await stack.enter_async_context(JanusProcess(**ports)))
        # With the clients' candidates the SFU would send past the relay.
        section = msgspec.structs.replace(section, blocked_candidates=("0.0.0.0/0", "::/0"))
        media = await stack.enter_async_context(MediaRelay(first, last))
        yield await stack.enter_async_context(demo_with(section)), media


async def test_an_interrupted_connection_is_resumed_while_media_continue(browser: Browser, demo: Demo) -> None:
    async with SignalingRelay(port_of(demo)) as signaling:
        ada = await joining_page(browser, f"http://127.0.0.1:{signaling.port}/", "Ada")
        bob = await joining_page(browser, demo.url, "Bob")
        await ada.until_advances("Bob")
        session = await ada.session_id()
        await signaling.cut()
        await ada.until_notice("The gateway cannot be reached")
        await ada.until_state("Gateway away, connecting again")
        await ada.until_advances("Bob")
        await bob.until_advances("Ada")
        cleo = await joining_page(browser, demo.url, "Cleo")
        await cleo.until_advances("Ada")
        await ada.page.click("#share")  # a request in the meantime is carried out after the resume
        await signaling.restore()
        await ada.until_state("in the call with 2 others")
        await ada.until_no_notice("The gateway cannot be reached")
        await ada.until_advances("Cleo")
        for page in (bob, cleo):
            await page.until_advances("Ada's screen")
        assert await ada.session_id() == session


async def test_media_continue_while_the_gateway_is_stopped_and_continued(browser: Browser) -> None:
    async with JanusProcess() as janus_process, demo_process(janus_process.url) as (url, process):
        ada = await joining_page(browser, url, "Ada")
        bob = await joining_page(browser, url, "Bob")
        await ada.until_advances("Bob")
        await bob.until_advances("Ada")
        session = await ada.session_id()
        freeze(process.pid)
        for page in (ada, bob):
            await page.page.evaluate("dispatchEvent(new Event('online'))")  # probe now, not after the usual silence
            await page.until_notice("The gateway cannot be reached")
        await ada.until_advances("Bob", frames=60)
        await bob.until_advances("Ada", frames=60)
        process.send_signal(signal.SIGCONT)
        for page, other in ((ada, "Bob"), (bob, "Ada")):
            await page.until_state("in the call with 1 other")
            await page.until_advances(other)
        assert await ada.session_id() == session


@asynccontextmanager
async def demo_process(janus: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run a demo gateway in a process of its own; yield its URL and the process."""
    command = (sys.executable, "-m", "tests.browser.demo_process", janus)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().strip()
        yield url, process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        await process.communicate()


async def test_after_a_restart_of_the_gateway_the_page_keeps_its_tiles(browser: Browser, demo: Demo) -> None:
    ada = await joining_page(browser, demo.url, "Ada")
    bob = await joining_page(browser, demo.url, "Bob")
    for page, other in ((ada, "Bob"), (bob, "Ada")):
        await page.until_advances(other)
        await page.page.evaluate("globalThis.before = [...document.querySelectorAll('.tile')]")
    session = await ada.session_id()
    await demo.stop_gateway()
    for page in (ada, bob):
        await page.until_notice("The gateway cannot be reached")
    await demo.start_gateway()
    for page, other in ((ada, "Bob"), (bob, "Ada")):
        await page.until_state("in the call with 1 other")
        await page.until_advances(other)
        tiles = "[...document.querySelectorAll('.tile')].map(tile => before.indexOf(tile))"
        assert await page.page.evaluate(tiles) == [0, 1]  # the own one among them
        await page.until_no_notice("no_such_session")
        assert "(no_such_session). You are joining anew." in "".join(await page.shown_texts())
    assert await ada.session_id() != session


async def test_a_call_recovers_after_a_restart_of_janus(browser: Browser) -> None:
    async with JanusProcess() as janus_process, demo_with(janus(janus_process)) as demo:
        ada = await joining_page(browser, demo.url, "Ada")
        bob = await joining_page(browser, demo.url, "Bob")
        await bob.until_advances("Ada")
        await janus_process.kill()
        await ada.until_state("interrupted, waiting for the network")
        await janus_process.start()
        await ada.until_advances("Bob")
        await bob.until_advances("Ada")
        await ada.until_state("in the call with 1 other")


@pytest.mark.parametrize("sfu", ["inprocess", "janus"])
async def test_a_screen_share_survives_ten_seconds_without_network(browser: Browser, sfu: str) -> None:
    async with network(sfu) as (demo, media), SignalingRelay(port_of(demo)) as signaling:
        ada = await joining_page(browser, f"http://127.0.0.1:{signaling.port}/", "Ada")
        bob = await joining_page(browser, demo.url, "Bob")
        await ada.page.click("#share")
        await bob.until_advances("Ada's screen")
        assert media.forwarded > 0
        session = await ada.session_id()
        await ada.page.context.set_offline(True)
        signaling.hold()
        media.cut = True
        cut_at = time.monotonic()
        await ada.until_state("Gateway away, connecting again")
        shown = await bob.frames("Ada's screen")
        await bob.until("a word for it", "document.querySelector('[aria-label^=\"Poor quality of Ada:\"]') !== null")
        await asyncio.sleep(cut_at + OUTAGE - time.monotonic())
        assert await bob.frames("Ada's screen") - shown <= 2, "the relay was not cut"
        signaling.release()
        media.cut = False
        await ada.page.context.set_offline(False)
        await ada.until_state("in the call with 1 other")
        for page, label in ((bob, "Ada's screen"), (bob, "Ada"), (ada, "Bob")):
            await page.until_advances(label)
        assert await ada.session_id() == session


def port_of(demo: Demo) -> int:
    return int(demo.url.rstrip("/").rpartition(":")[2])
