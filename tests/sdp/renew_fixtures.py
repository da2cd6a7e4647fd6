#!/usr/bin/env python3
"""Record the fixtures anew: descriptions of the installed Chromium, Firefox, aiortc and Janus.

    python -m tests.sdp.renew_fixtures

Needs Debian's chromium, firefox-esr and janus. Each folder's ``about.json`` names the program and its version.
``NAME-before`` is the first offer of the PeerConnection of ``NAME``. Descriptions are kept
byte for byte, with one exception: an address of this machine other than 127.0.0.1 becomes one reserved for
documentation (RFC 5737, RFC 3849).
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from ipaddress import ip_address
from pathlib import Path

import aiortc

from tests.sdp.renewal import python_peer
from tests.sdp.renewal.browser import CHROMIUM, FIREFOX, Browser, browser
from tests.sdp.renewal.session_description import SessionDescription
from tests.sdp.renewal.video_room import VideoRoom, video_room

FIXTURES = Path(__file__).parent / "fixtures"
COMMON_PARTS = (
    "camera",
    "both_ways",
    "audio_only",
    "video_only",
    "data_only",
    "receive_only",
    "canvas",
    "simulcast",
    "scalable",
    "camera_stopped",
    "camera_added",
    "ice_restarted",
    "two_videos",
    "max_bundle",
)
CHROMIUM_OFFERS = (*COMMON_PARTS, "screen", "h264_first", "h264_only", "red_first")
FIREFOX_OFFERS = COMMON_PARTS  # no red, no H264 without a download, no screen without a person's click
_ADDRESS = re.compile(
    r"(?:(?<=IP[46] )|(?<=raddr )|(?<= )(?=\S+ [0-9]+ typ ))(?:[0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F:.]+)(?=\s)"
)
_HARMLESS_ADDRESSES = frozenset(("127.0.0.1", "0.0.0.0", "::", "::1"))


class Program:
    """One folder of fixtures."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version
        self.descriptions: dict[str, SessionDescription] = {}
        self.answers: dict[str, str] = {}

    def keep(self, name: str, description: SessionDescription, to: str = "") -> SessionDescription:
        """Add a description; ``to`` names the fixture that an answer answers."""
        file = f"{name.replace('_', '-')}.{description.type}.sdp"
        self.descriptions[file] = description
        if to:
            self.answers[file] = to
        return description

    def write(self) -> None:
        """Replace the folder."""
        folder = FIXTURES / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, description in self.descriptions.items():
            (folder / file).write_bytes(without_addresses(description.sdp).encode())
        about = {"program": self.name, "version": self.version, "answers": self.answers}
        (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def without_addresses(sdp: str) -> str:
    """Replace each address of this machine, the same address always by the same one."""
    seen: dict[str, str] = {}

    def replacement(match: re.Match[str]) -> str:
        text = match[0]
        if text in _HARMLESS_ADDRESSES:
            return text
        number = sum(ip_address(each).version == ip_address(text).version for each in seen) + 1
        documentation = f"192.0.2.{number}" if ip_address(text).version == 4 else f"2001:db8::{number}"
        return seen.setdefault(text, documentation)

    return _ADDRESS.sub(replacement, sdp)


async def offers_of(peer: Browser, name: str, tasks: tuple[str, ...]) -> Program:
    """Record a browser's offers."""
    program = Program(name, peer.version)
    for task in tasks:
        description = program.keep(task, await peer.ask(task))
        if description.before:
            program.keep(f"{task}-before", SessionDescription("offer", description.before))
    return program


async def offers_of_aiortc() -> Program:
    """Record aiortc's offers."""
    program = Program("aiortc", f"aiortc {aiortc.__version__}")
    for name, parts in python_peer.OFFERS.items():
        async with python_peer.peer() as pc:
            program.keep(name, await python_peer.offer(pc, *parts))
    return program


async def offers_of_janus(room: VideoRoom) -> Program:
    """Record Janus' offers, with VP8 and with H264."""
    program = Program("janus", f"Janus {room.version}")
    for codec in ("vp8", "h264"):
        for name, description in (await room.offers(videocodec=codec)).items():
            program.keep(f"{name}-{codec}", description)
    return program


async def answers_of_browsers(answering: dict[Program, Browser], offering: list[Program]) -> None:
    """Record each browser's answers to each program's offers of a camera or to a subscriber."""
    for program, peer in answering.items():
        for other in offering:
            for file in ("camera.offer.sdp", "simulcast.offer.sdp", "h264-only.offer.sdp", "subscriber-vp8.offer.sdp"):
                if file in other.descriptions:
                    name = f"{file.partition('.')[0]}-of-{other.name}"
                    description = await peer.ask("answer", other.descriptions[file])
                    program.keep(name, description, f"{other.name}/{file}")
        for task in ("answer_without_video", "answer_with_media"):
            name = f"camera-of-chromium-{task.removeprefix('answer_')}"
            program.keep(
                name, await peer.ask(task, offering[0].descriptions["camera.offer.sdp"]), "chromium/camera.offer.sdp"
            )


async def answers_of_aiortc(program: Program, offering: list[Program]) -> None:
    """Record aiortc's answers to each program's offer of a camera."""
    for other in offering:
        if "camera.offer.sdp" in other.descriptions:
            async with python_peer.peer() as pc:
                description = await python_peer.answer(pc, other.descriptions["camera.offer.sdp"])
                program.keep(f"camera-of-{other.name}", description, f"{other.name}/camera.offer.sdp")


async def answers_of_janus(program: Program, room: VideoRoom, offering: list[Program]) -> None:
    """Publish each camera with each codec, and the special offers of Chromium."""
    for other in offering:
        for codec in ("vp8", "vp9", "h264", "av1"):
            if "camera.offer.sdp" in other.descriptions:
                description = await room.answer(other.descriptions["camera.offer.sdp"], videocodec=codec)
                program.keep(f"camera-of-{other.name}-{codec}", description, f"{other.name}/camera.offer.sdp")
        for name in ("audio-only", "video-only", "data-only", "simulcast", "camera-stopped"):
            if f"{name}.offer.sdp" in other.descriptions:
                description = await room.answer(other.descriptions[f"{name}.offer.sdp"], videocodec="vp8")
                program.keep(f"{name}-of-{other.name}", description, f"{other.name}/{name}.offer.sdp")


async def renew() -> None:
    """Record all four programs, then write all folders at once."""
    python_peer.stay_on_loopback()
    async with browser(CHROMIUM) as chromium, browser(FIREFOX) as firefox, video_room() as room:
        by_chromium = await offers_of(chromium, "chromium", CHROMIUM_OFFERS)
        by_firefox = await offers_of(firefox, "firefox", FIREFOX_OFFERS)
        by_aiortc = await offers_of_aiortc()
        by_janus = await offers_of_janus(room)
        programs = [by_chromium, by_firefox, by_aiortc, by_janus]
        await answers_of_browsers({by_chromium: chromium, by_firefox: firefox}, programs)
        await answers_of_aiortc(by_aiortc, programs)
        await answers_of_janus(by_janus, room, programs)
    for program in programs:
        program.write()


if __name__ == "__main__":
    try:
        asyncio.run(renew())
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: apt-get install chromium firefox-esr janus gcc libc6-dev")
