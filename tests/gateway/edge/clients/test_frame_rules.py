"""The rules for a client's frames that are checked before aiohttp's parser."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.clients.frame_rules import FrameRules, may_be_sent
from tests.gateway.edge.raw_client import BINARY, PING, PONG, masked

UNMASKED = b"\x81\x01x"


class Checked:
    """The octets that were passed on, and the close codes of violations."""

    def __init__(self) -> None:
        self.passed = b""
        self.errors: list[int] = []
        self.rules = FrameRules(self._pass, self.errors.append)

    def _pass(self, octets: bytes) -> None:
        self.passed += octets


def long_form(payload: bytes, size: int) -> bytes:
    """Return a masked frame whose length has 2 or 8 octets, whether it needs them or not."""
    head = struct.pack("!BBH" if size == 2 else "!BBQ", 0x81, 0x80 | (126 if size == 2 else 127), len(payload))
    return head + bytes(4) + payload


FORBIDDEN = {
    "unmasked text": UNMASKED,
    "unmasked empty text": b"\x81\x00",
    "unmasked binary": b"\x82\x01x",
    "unmasked ping": b"\x89\x00",
    "unmasked pong": b"\x8a\x00",
    "unmasked close": b"\x88\x02\x03\xe8",
    "unmasked with 2 octets of length": b"\x81\x7e\x00\x7e" + b"x" * 126,
    "unmasked with 8 octets of length": b"\x81\x7f" + (70000).to_bytes(8),
    "unmasked continuation": masked("a", final=False) + b"\x80\x01x",
    "text within a message": masked("a", final=False) + masked("b"),
    "text within a message that began empty": masked("", final=False) + masked("b"),
    "binary within a message": masked("", final=False) + masked(b"b", BINARY),
    "length of 2 octets for 125": long_form(b"x" * 125, 2),
    "length of 8 octets for 126": long_form(b"x" * 126, 8),
    "length of 8 octets for 65535": long_form(b"x" * 65535, 8),
    "length with its highest bit": b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4),
}

ALLOWED = [
    masked(""),
    masked("x"),
    masked("x" * 125),
    masked("x" * 126),
    masked("x" * 65535),
    masked("x" * 65536),
    masked(b"\x00", BINARY),
    masked(b"", PING),
    masked(b"12", PONG),
    masked("a", final=False) + masked(b"p", PING) + masked("", 0, final=False) + masked("b", 0),
    masked("", final=False) + masked("", 0),
]


# reference 2.1-m
@pytest.mark.parametrize("octets", FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("whole", [True, False], ids=["at once", "octet by octet"])
def test_forbidden_frame_is_a_protocol_error_and_nothing_behind_it_is_read(octets: bytes, whole: bool) -> None:
    checked = Checked()
    sent = masked("before") + octets + masked("behind")
    for part in [sent] if whole else [sent[at : at + 1] for at in range(len(sent))]:
        checked.rules.receive(part)
    checked.rules.receive(masked("later"))
    assert checked.errors == [1002]
    assert checked.passed.startswith(masked("before")[:2])
    assert len(checked.passed) < len(sent) - len(masked("behind"))


@given(st.lists(st.sampled_from(ALLOWED), min_size=1, max_size=4), st.lists(st.integers(1, 70000), max_size=6))
def test_allowed_frames_are_passed_on_octet_for_octet_however_they_are_split(
    frames: list[bytes], cuts: list[int]
) -> None:
    checked = Checked()
    sent = b"".join(frames)
    edges = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        checked.rules.receive(sent[start:end])
    assert (checked.passed, checked.errors) == (sent, [])


@given(st.lists(st.sampled_from(ALLOWED), max_size=3), st.sampled_from(list(FORBIDDEN.values())), st.data())
def test_forbidden_frame_is_found_wherever_it_is_cut(before: list[bytes], octets: bytes, data: st.DataObject) -> None:
    checked = Checked()
    sent = b"".join(before) + octets
    cut = data.draw(st.integers(0, len(sent)))
    checked.rules.receive(sent[:cut])
    checked.rules.receive(sent[cut:])
    assert checked.errors == [1002]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        *((code, True) for code in (1000, 1003, 1007, 1014, 3000, 4999)),
        *((code, False) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    ],
)
def test_codes_that_a_close_frame_may_carry(code: int, allowed: bool) -> None:
    assert may_be_sent(code) is allowed
