"""Chromium and aiortc accept each fixture after each edit if they accept it unedited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import aioice.ice
import pytest
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from playwright.async_api import async_playwright

from sdp.candidates import CandidateFilter, filter_description
from sdp.codecs import Payload, payloads
from sdp.document import parse
from tests.sdp.edits import EDITS
from tests.sdp.recorded import ALL_DESCRIPTIONS, Recorded
from tests.sdp.renewal.python_peer import add, peer, set_remote
from tests.sdp.renewal.session_description import SessionDescription

pytestmark = pytest.mark.full

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BATCH = 300  # Chromium frees PeerConnections late and has at most 500 in a page
NO_CANDIDATES = CandidateFilter(blocked=["0.0.0.0/0", "::/0"])
REFUSALS = (OperationError, InvalidAccessError, InvalidStateError, ValueError)  # the errors of aiortc
Role = Callable[[Recorded], str]  # the type that a fixture is set with: "offer" or "answer"

# Sets each description on a PeerConnection of its own; before an answer, an offer with the same sections.
ACCEPT = """async (descriptions) => {
  const offer = async (pc, parts) => {
    for (const part of parts) {
      if (part.kind === "application") pc.createDataChannel("status");
      else pc.addTransceiver(part.kind, { sendEncodings: part.layers.map((rid) => ({ rid })) });
    }
    await pc.setLocalDescription();
  };
  const accept = async ({ type, sdp, parts }) => {
    const pc = new RTCPeerConnection();
    try {
      if (type === "answer") await offer(pc, parts);
      await pc.setRemoteDescription({ type, sdp });
      if (type === "offer") await pc.createAnswer();
      return "";
    } catch (error) {
      return `${error}`;
    } finally {
      pc.close();
    }
  };
  const found = [];
  for (const description of descriptions) found.push(await accept(description));
  return found;
}"""


class Acceptance:
    """The errors of a WebRTC stack by role and description; "" where it accepts the description."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.errors: dict[tuple[str, str], str] = {}

    def texts(self) -> list[tuple[str, str]]:
        """Return each pair of role and text once."""
        return list({(self.role(recorded), text): None for recorded, _, text in self._edits()})

    def refused_before(self) -> dict[str, str]:
        """Return the errors of the fixtures that are refused unedited."""
        return {
            recorded.id: error
            for recorded, edit, text in self._edits()
            if not edit and (error := self.errors[self.role(recorded), text])
        }

    def refused_after(self) -> dict[str, str]:
        """Return the errors of edited fixtures that are accepted unedited."""
        before = self.refused_before()
        return {
            f"{recorded.id} {edit}": error
            for recorded, edit, text in self._edits()
            if recorded.id not in before and (error := self.errors[self.role(recorded), text])
        }

    def _edits(self) -> Iterator[tuple[Recorded, str, str]]:
        """Yield each fixture unedited (edit "") and after each edit.

        Answers have no candidates, so that the stack does not begin to connect.
        """
        for recorded in ALL_DESCRIPTIONS:
            for name, edit in [("", None), *((edit.name, edit.apply) for edit in EDITS)]:
                description = parse(recorded.text)
                if edit is not None:
                    edit(description)
                if self.role(recorded) == "answer":
                    filter_description(description, NO_CANDIDATES)
                yield recorded, name, str(description)


def parts(text: str) -> list[dict[str, Any]]:
    """Return media kind and layers of each section of the offer that an answer needs."""
    return [
        {"kind": section.kind, "layers": [value.split(" ")[0] for value in section.attributes("rid")]}
        for section in parse(text).media
    ]


def role_in_chromium(recorded: Recorded) -> str:
    """Return "answer" for answers to Chromium's offers, else "offer".

    Other answers have header extension ids that Chromium did not offer; edited lines mean the same in an offer.
    """
    return recorded.type if recorded.answers.startswith("chromium/") else "offer"


async def ask_chromium(acceptance: Acceptance) -> None:
    """Set each description on a PeerConnection of Chromium and record the errors."""
    texts = acceptance.texts()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            page = await browser.new_page()
            descriptions = [{"type": role, "sdp": text, "parts": parts(text)} for role, text in batch]
            acceptance.errors |= dict(zip(batch, await page.evaluate(ACCEPT, descriptions), strict=True))
            await page.close()
        await browser.close()


async def ask_aiortc(role: str, text: str) -> str:
    """Set a description on a new peer and return the error, "" if it is accepted."""
    async with peer() as pc:
        if role == "answer":
            for section in parse(text).media:
                add(pc, {"application": "data"}.get(section.kind, section.kind))
            await pc.setLocalDescription(await pc.createOffer())
        description = parse(text)
        filter_description(description, CandidateFilter())  # aiortc would look host names up
        try:
            await set_remote(pc, SessionDescription(role, str(description)))
            if role == "offer":
                await pc.createAnswer()
        except REFUSALS as error:
            return f"{type(error).__name__}: {error}"
    return ""


def known_to_aiortc(text: str) -> bool:
    """Return whether each section of audio or video has a codec that aiortc knows."""
    sections = [section for section in parse(text).media if section.is_rtp]
    return all(any(map(payload_known_to_aiortc, payloads(section))) for section in sections)


def payload_known_to_aiortc(payload: Payload) -> bool:
    if payload.codec == "h264":
        return payload.parameters.get("profile-level-id") in ("42001f", "42e01f")
    return payload.codec in ("opus", "g722", "pcmu", "pcma", "vp8")


def lacks_credentials(text: str) -> bool:
    """Return whether a section has no ICE credentials: rejected sections may lack them, which aiortc refuses."""
    return any(section.attribute("ice-ufrag") is None for section in parse(text).media)


async def test_chromium_accepts_each_edited_fixture() -> None:
    acceptance = Acceptance(role_in_chromium)
    await ask_chromium(acceptance)
    assert acceptance.refused_before() == {}
    assert acceptance.refused_after() == {}


async def test_aiortc_accepts_each_edited_fixture_with_a_codec_that_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    acceptance, asked = Acceptance(lambda recorded: recorded.type), 0
    for role, text in acceptance.texts():
        known = known_to_aiortc(text) and not lacks_credentials(text)
        acceptance.errors[role, text] = await ask_aiortc(role, text) if known else ""
        asked += known
    assert asked > len(acceptance.errors) / 2
    assert acceptance.refused_before() == {}
    assert acceptance.refused_after() == {}
