"""What real stacks accepted before a verb they accept after: Chromium and aiortc, over all fixtures and all verbs."""

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
from tests.sdp.recorded import ALL, Recorded
from tests.sdp.renewal.made import Made
from tests.sdp.renewal.python_peer import add, peer, take
from tests.sdp.verbs import VERBS

pytestmark = pytest.mark.full

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BATCH = 300  # Chromium frees PeerConnections late and has at most 500 in a page
NOBODY = CandidateFilter(blocked=["0.0.0.0/0", "::/0"])
REFUSALS = (OperationError, InvalidAccessError, InvalidStateError, ValueError)  # aiortc's
Role = Callable[[Recorded], str]  # as what a fixture is given to a stack: "offer" or "answer"

# Sets each description on a PeerConnection of its own; before an answer, it offers what the answer is for.
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
    """What a stack was asked, and what it said: for each role and text what was wrong, "" where nothing was."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.found: dict[tuple[str, str], str] = {}

    def asked(self) -> list[tuple[str, str]]:
        """Return each role and text once."""
        return list({(self.role(recorded), text): None for recorded, _, text in self._edits()})

    def refused_before(self) -> dict[str, str]:
        """Return the fixtures that are refused as they are, and why."""
        return {
            recorded.id: why
            for recorded, verb, text in self._edits()
            if not verb and (why := self.found[self.role(recorded), text])
        }

    def refused_after(self) -> dict[str, str]:
        """Return what is refused after a verb although it was accepted before."""
        before = self.refused_before()
        return {
            f"{recorded.id} {verb}": why
            for recorded, verb, text in self._edits()
            if recorded.id not in before and (why := self.found[self.role(recorded), text])
        }

    def _edits(self) -> Iterator[tuple[Recorded, str, str]]:
        """Yield each fixture as it is (no verb) and after each verb.

        Answers go without their candidates, or the stack would begin to connect to them.
        """
        for recorded in ALL:
            for name, edit in [("", None), *((verb.name, verb.edit) for verb in VERBS)]:
                description = parse(recorded.text)
                if edit is not None:
                    edit(description)
                if self.role(recorded) == "answer":
                    filter_description(description, NOBODY)
                yield recorded, name, str(description)


def parts(text: str) -> list[dict[str, Any]]:
    """Say what the offer to an answer consists of."""
    return [
        {"kind": section.kind, "layers": [value.split(" ")[0] for value in section.attributes("rid")]}
        for section in parse(text).media
    ]


def role_in_chromium(recorded: Recorded) -> str:
    """An answer to an offer of Chromium answers one; others use header extension ids that Chromium did not offer.

    Those are set as offers: the lines that the verbs touch mean the same there.
    """
    return recorded.type if recorded.answers.startswith("chromium/") else "offer"


async def ask_chromium(acceptance: Acceptance) -> None:
    asked = acceptance.asked()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            page = await browser.new_page()
            descriptions = [{"type": role, "sdp": text, "parts": parts(text)} for role, text in batch]
            acceptance.found |= dict(zip(batch, await page.evaluate(ACCEPT, descriptions), strict=True))
            await page.close()
        await browser.close()


async def ask_aiortc(role: str, text: str) -> str:
    """Set a description on a peer of its own; return what is wrong with it."""
    async with peer() as pc:
        if role == "answer":
            for section in parse(text).media:
                add(pc, {"application": "data"}.get(section.kind, section.kind))
            await pc.setLocalDescription(await pc.createOffer())
        description = parse(text)
        filter_description(description, CandidateFilter())  # aiortc would look host names up
        try:
            await take(pc, Made(role, str(description)))
            if role == "offer":
                await pc.createAnswer()
        except REFUSALS as error:
            return f"{type(error).__name__}: {error}"
    return ""


def known_to_aiortc(text: str) -> bool:
    """Whether each section of audio or video has a codec that aiortc knows."""
    sections = [section for section in parse(text).media if section.is_rtp]
    return all(any(map(payload_known_to_aiortc, payloads(section))) for section in sections)


def payload_known_to_aiortc(payload: Payload) -> bool:
    if payload.codec == "h264":
        return payload.parameters.get("profile-level-id") in ("42001f", "42e01f")
    return payload.codec in ("opus", "g722", "pcmu", "pcma", "vp8")


def without_credentials(text: str) -> bool:
    """Whether a section has no ICE credentials, as rejected ones may and aiortc does not allow."""
    return any(section.attribute("ice-ufrag") is None for section in parse(text).media)


async def test_chromium_accepts_after_each_verb_what_it_accepted_before() -> None:
    acceptance = Acceptance(role_in_chromium)
    await ask_chromium(acceptance)
    assert acceptance.refused_before() == {}
    assert acceptance.refused_after() == {}


async def test_aiortc_accepts_after_each_verb_what_it_accepted_before_while_it_knows_a_codec(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    acceptance = Acceptance(lambda recorded: recorded.type)
    for role, text in acceptance.asked():
        known = known_to_aiortc(text) and not without_credentials(text)
        acceptance.found[role, text] = await ask_aiortc(role, text) if known else ""
    assert acceptance.refused_before() == {}
    assert acceptance.refused_after() == {}
