"""The CPU time of the work on session descriptions of one publish, without messages and without an SFU."""

from __future__ import annotations

import time
from pathlib import Path

from bench.report import PORTUNUS, Row
from bench.runner import Bench
from gateway.flows.media.negotiation import checked_answer
from mcu.janus.streams.descriptions import SerialisedOffer
from sdp import bitrate, candidates, codecs, document
from sdp.mending import mend
from sdp.normal_form import check_size, normalise
from sdp.offer_answer import stops_all_media

FIXTURES = Path(__file__).parent.parent / "tests" / "sdp" / "fixtures"
LONGEST = 65_536  # characters that a client's message may have
REPEATED = 200  # publishes of a round
PREFERENCE = codecs.CodecPreference.parse("opus", "vp8", "", "")
FILTER = candidates.CandidateFilter()


def measure(bench: Bench) -> list[Row]:
    """Measure the CPU time of one publish's descriptions: the client's offer to the SFU, the SFU's answer back."""
    offer = (FIXTURES / "chromium" / "camera.offer.sdp").read_text()
    answer = (FIXTURES / "janus" / "camera-of-chromium-vp8.answer.sdp").read_text()
    long_offer, long_answer = lengthened(offer, answer)
    rows = []
    for text, sent, received in (
        ("Chromium, 3 m-lines", offer, answer),
        (f"{long_offer.count(chr(10) + 'm=')} m-lines, {len(long_offer):,} characters", long_offer, long_answer),
    ):
        count = bench.count(REPEATED if sent is offer else REPEATED // 10)
        row = Row("descriptions of a publish", text, "µs", figures={PORTUNUS: []})
        for _ in range(bench.rounds):
            begun = time.thread_time()
            for _ in range(count):
                publish(sent, received)
            row.figures[PORTUNUS].append((time.thread_time() - begun) / count * 1e6)
        rows.append(row)
    return rows


def publish(offer_text: str, answer_text: str) -> str:
    """Process a publish's descriptions as the media flow and the Janus backend do; return the answer to the client."""
    check_size(offer_text)
    offer = document.parse(offer_text)
    normalise(offer)
    candidates.drop_excess(offer)
    candidates.check(offer)
    candidates.filter_description(offer, FILTER)
    document.identity(offer)
    stops_all_media(offer)
    codecs.prefer(offer, PREFERENCE)
    sent = SerialisedOffer.of(offer.freeze())
    answer = document.parse(answer_text)
    mend(sent.description, answer)
    capped = checked_answer(sent.description, answer.freeze()).copy()
    bitrate.limit_media(capped, ("video",), 1_000_000)
    return str(capped)


def lengthened(offer: str, answer: str) -> tuple[str, str]:
    """Return an offer of almost ``LONGEST`` characters, whose video m-line is repeated, and the answer to it."""
    long_offer, long_answer = document.parse(offer), document.parse(answer)
    place = next(at for at, section in enumerate(long_offer.media) if section.kind == "video")
    added = 0
    while len(str(long_offer)) + len(_repeated(long_offer, place, added)) < LONGEST - 200:
        long_offer, long_answer = (_with_section(it, place, added) for it in (long_offer, long_answer))
        added += 1
    return str(long_offer), str(long_answer)


def _with_section(description: document.Description, place: int, number: int) -> document.Description:
    """Return the description with its m-line at ``place`` once more at the end, in the BUNDLE group."""
    text = str(description).replace("a=group:BUNDLE ", f"a=group:BUNDLE x{number} ", 1)
    return document.parse(text.rstrip() + "\r\n" + _repeated(description, place, number).rstrip() + "\r\n")


def _repeated(description: document.Description, place: int, number: int) -> str:
    lines = (f"a=mid:x{number}" if line.startswith("a=mid:") else line for line in description.media[place].lines)
    return "\r\n".join(line.rstrip("\r") for line in lines)
