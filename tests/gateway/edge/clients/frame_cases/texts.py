"""Cases of text: characters of all lengths, cut anywhere, and octets that are no UTF-8 (RFC 6455 8.1, RFC 3629)."""

from __future__ import annotations

from tests.gateway.edge.clients.frame_cases.events import (
    UNREADABLE,
    Case,
    answer,
    case,
    closed,
    fragments,
    pieces,
    text,
)
from tests.gateway.edge.raw_client import masked

NO_TEXT = closed(1007)
WORDS = "Ärger $ ¢ € 𤭢 κόσμε"

# By length, the first and last characters, and those beside the surrogates; then non-characters and specials.
CHARACTERS = (
    *(0x20, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF),
    *(0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB, 0xFFFC, 0xFFFD, 0xFFFE, 0xFDD0, 0xFDEF),
    *(plane << 16 | last for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)),
)


def continuation(*low_bits: int) -> bytes:
    """Return continuation octets with these low bits."""
    return bytes(0x80 | bits for bits in low_bits)


NO_UTF8: dict[str, bytes] = {
    **{f"octet {octet:02x} alone": bytes((octet,)) for octet in range(0x80, 0x100)},
    **{f"continuation octets, {count}": continuation(*range(count)) for count in range(2, 8)},
    "all continuation octets": continuation(*range(64)),
    **{f"lead octet {lead:02x} before a space": bytes((lead, 0x20)) for lead in range(0xC0, 0x100)},
    **{
        f"{length} octets without the last": bytes((lead,)) + continuation(*[0x3F] * (length - 2))
        for lead, length in ((0xDF, 2), (0xEF, 3), (0xF3, 4), (0xFB, 5), (0xFD, 6))
    },
    **{
        f"{name} in {len(octets)} octets": octets
        for name, forms in (
            ("NUL", (b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80")),
            ("slash", (b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf")),
            ("greatest overlong", (b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf")),
            ("above U+10FFFF", (b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80")),
            ("greatest form", (b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf")),
        )
        for octets in forms
    },
    **{
        f"surrogate {code:04x}": code.to_bytes(2).decode("utf-16-be", "surrogatepass").encode(errors="surrogatepass")
        for code in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
    },
    "two surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "greatest two surrogates": b"\xed\xaf\xbf\xed\xbf\xbf",
    "Latin-1": "Ärger".encode("latin-1"),
}

VALID: dict[str, Case] = {
    "whole": case(masked(text(WORDS)), then=[answer(WORDS)]),
    "fragments at characters": case(*fragments([part.encode() for part in text(WORDS).decode()]), then=[answer(WORDS)]),
    "fragments within characters": case(*fragments(pieces(text(WORDS), 1)), then=[answer(WORDS)]),
    "fragments within characters, in one write": case(
        b"".join(fragments(pieces(text(WORDS), 2))), then=[answer(WORDS)]
    ),
    "octet by octet": case(*pieces(masked(text(WORDS)), 1), then=[answer(WORDS)]),
    "three empty fragments": case(*fragments([b"", b"", b""]), then=[UNREADABLE]),
    "fragment within a character, then empty ones": case(
        *fragments([text("€")[:8], b"", b"", text("€")[8:9], b"", text("€")[9:]]), then=[answer("€")]
    ),
}

CHARACTERS_ALONE: dict[str, Case] = {
    f"U+{code:04X}{how}": case(*writes, then=[answer(chr(code))])
    for code in CHARACTERS
    for how, writes in (
        ("", [masked(text(chr(code)))]),
        (", one octet in each fragment", [b"".join(fragments(pieces(text(chr(code)), 1)))]),
    )
}

INVALID: dict[str, Case] = {
    f"{name}{how}": case(*writes, then=[NO_TEXT])
    for name, octets in NO_UTF8.items()
    for how, writes in (
        ("", [masked(text(octets))]),
        (", one octet in each fragment", [b"".join(fragments(pieces(text(octets), 1)))]),
    )
}

# No last fragment is sent: the gateway refuses the fragment in which the text becomes invalid.
FAIL_FAST: dict[str, Case] = {
    "text becomes invalid in its second fragment": case(
        masked('{"id":"κόσμε'.encode(), final=False), masked(b"\xf4\x90\x80\x80", 0, final=False), then=[NO_TEXT]
    ),
    "text becomes invalid at the second octet of a character": case(
        masked(b'{"id":"\xf4', final=False), masked(b"\x90", 0, final=False), then=[NO_TEXT]
    ),
    "surrogate": case(masked(b'{"id":"\xed', final=False), masked(b"\xa0\x80", 0, final=False), then=[NO_TEXT]),
    "character that a fragment does not continue": case(
        masked(b'{"id":"\xe2\x82', final=False), masked(b'"', 0, final=False), then=[NO_TEXT]
    ),
    "first fragment": case(masked(b"\xff", final=False), then=[NO_TEXT]),
    # The cases below have a last fragment.
    "message ends within a character": case(*fragments([b'{"id":"', b"\xe2\x82", b""]), then=[NO_TEXT]),
    "whole message ends within a character": case(masked(b'{"id":"\xce'), then=[NO_TEXT]),
    # One frame is decoded when it is complete: RFC 6455 does not ask for more.
    "frame octet by octet": case(*pieces(masked(text(b"\xf4\x90\x80\x80")), 1), then=[NO_TEXT]),
    "binary message is not decoded": case(*fragments([b"\xff", b"\xfe"], opcode=2), then=[UNREADABLE]),
}
