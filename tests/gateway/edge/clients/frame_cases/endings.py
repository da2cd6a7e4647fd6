"""Cases of the close, of the limits, and of compression (RFC 6455 5.5.1, 7; RFC 7692)."""

from __future__ import annotations

from tests.gateway.edge.clients.frame_cases.events import (
    Case,
    answer,
    case,
    close,
    closed,
    fragments,
    id_of,
    pieces,
    text,
)
from tests.gateway.edge.clients.frame_cases.frames import ANSWER, FIRST, MESSAGE, REFUSED, SECOND, THIRD, with_length
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, masked

LIMIT = 65536  # bytes of a message
VALID_CODES = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)

CLOSING: dict[str, Case] = {
    "close": case(close(1000), then=[closed(1000)]),
    "close, octet by octet": case(*pieces(close(1000), 1), then=[closed(1000)]),
    "two closes": case(close(1000) + close(1001), then=[closed(1000)]),
    "ping after the close": case(close(1000) + masked(b"", PING), then=[closed(1000)]),
    "message after the close": case(close(1000) + MESSAGE, then=[closed(1000)]),
    "close within a message": case(FIRST + close(1000) + SECOND + THIRD, then=[closed(1000)]),
    "protocol error after the close": case(close(1000) + b"\xff\x01x", then=[closed(1000)]),
    "close after a ping": case(masked(b"p", PING) + close(1000), then=[("pong", b"p"), closed(1000)]),
    "close without a code": case(masked(b"", CLOSE), then=[closed(1000)]),
    "half a code": case(masked(b"\x03", CLOSE), then=[REFUSED]),
    "reason": case(close(1000, "Tschüß".encode()), then=[closed(1000)]),
    "longest reason": case(close(1000, b"x" * 123), then=[closed(1000)]),
    "too long reason": case(close(1000, b"x" * 124), then=[REFUSED]),
    "reason that is no UTF-8": case(close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), then=[closed(1007)]),
    "reason that ends within a character": case(close(1000, b"\xe2\x82"), then=[closed(1007)]),
    **{f"code {code}": case(close(code), then=[closed(code)]) for code in VALID_CODES},
    **{f"code {code} with a reason": case(close(code, b"why"), then=[closed(code)]) for code in VALID_CODES},
    **{f"invalid code {code}": case(close(code), then=[REFUSED]) for code in INVALID_CODES},
    **{f"invalid code {code} with a reason": case(close(code, b"why"), then=[REFUSED]) for code in INVALID_CODES},
}

_LONGEST = text(id_of(LIMIT))
_TOO_BIG = closed(1009)

LIMITS: dict[str, Case] = {
    **{
        f"longest text in fragments of {size}": case(
            b"".join(fragments(pieces(_LONGEST, size))), then=[answer(id_of(LIMIT))]
        )
        for size in (64, 256, 1300, 4096, 16384, 65535)
    },
    **{
        f"longest text in writes of {size}": case(*pieces(masked(_LONGEST), size), then=[answer(id_of(LIMIT))])
        for size in (64, 128, 256, 1024, 2048)
    },
    **{
        f"text of {LIMIT + more}": case(MESSAGE + masked(text(id_of(LIMIT + more))), then=[ANSWER, _TOO_BIG])
        for more in (1, 2, LIMIT)
    },
    "longer text, refused at its head": case(masked(text(id_of(LIMIT + 1)))[:10], then=[_TOO_BIG]),
    "greatest length": case(with_length(8, (1 << 63) - 1, b""), then=[_TOO_BIG]),
    "longer text in fragments": case(b"".join(fragments(pieces(text(id_of(LIMIT + 1)), 4096))), then=[_TOO_BIG]),
    "longer text by its last octet": case(b"".join(fragments([_LONGEST, b"x"])), then=[_TOO_BIG]),
    "longer text, refused at the head of a fragment": case(
        masked(_LONGEST[:60000], final=False), masked(b"x" * 6000, 0, final=False)[:8], then=[_TOO_BIG]
    ),
    "longer binary": case(masked(bytes(LIMIT + 1), BINARY), then=[_TOO_BIG]),
    "ping within the longest text": case(
        masked(_LONGEST[:-1], final=False) + masked(b"x" * 125, PING) + masked(_LONGEST[-1:], 0),
        then=[("pong", b"x" * 125), answer(id_of(LIMIT))],
    ),
}

_WINDOWS = ("", *(f"={bits}" for bits in range(8, 16)))
_PARAMETERS = {
    "",
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_no_context_takeover; client_no_context_takeover",
    *(f"client_max_window_bits{bits}" for bits in _WINDOWS),
    *(f"server_max_window_bits{bits}" for bits in _WINDOWS[1:]),
    *(f"server_max_window_bits{bits}; client_max_window_bits{bits}" for bits in _WINDOWS[1:]),
    "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
}
_MALFORMED = (
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; client_max_window_bits=x",
    "permessage-deflate; client_max_window_bits=9; client_max_window_bits=9",
    "permessage-deflate; unknown",
    "permessage-deflate;;",
    "permessage-deflate, permessage-deflate; client_max_window_bits",
    "permessage-bzip2, x-webkit-deflate-frame",
    'permessage-deflate; client_max_window_bits="10"',
    ",",
    "",
)
# Offers of extensions (RFC 6455 9.1): none is accepted, so that messages are neither sent nor received compressed.
_OFFERS = (*(f"permessage-deflate; {parameters}".removesuffix("; ") for parameters in sorted(_PARAMETERS)), *_MALFORMED)
_COMPRESSED = masked(b"\x00", reserved=4)  # an empty message (RFC 7692 7.2.3.6)

EXTENSIONS: dict[str, Case] = {
    **{f"uncompressed after {offer!r}": Case((MESSAGE,), (ANSWER,), offer) for offer in _OFFERS},
    **{f"compressed after {offer!r}": Case((MESSAGE + _COMPRESSED,), (ANSWER, REFUSED), offer) for offer in _OFFERS},
}
