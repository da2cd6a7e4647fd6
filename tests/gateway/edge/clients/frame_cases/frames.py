"""Cases of frames: sizes, pings and pongs, reserved bits, opcodes, masks, fragments (RFC 6455 5)."""

from __future__ import annotations

from tests.gateway.edge.clients.frame_cases.events import (
    UNREADABLE,
    Case,
    answer,
    case,
    closed,
    fragments,
    id_of,
    pieces,
    pong,
    text,
)
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, PONG, masked

SIZES = (125, 126, 127, 128, 65535, 65536)  # around the three forms of a frame's length
MESSAGE, ANSWER = masked(text("m")), answer("m")
TEXT_FRAGMENTS = FIRST, SECOND, THIRD = fragments([b'{"id":"a', b'bc","type"', b':"message"}'])
BINARY_FRAGMENTS = fragments([b"a", b"b", b"c"], BINARY)
UNFINISHED = masked(b'{"id":"o', final=False)  # the first fragment of a message without a last one
REFUSED = closed(1002)


def octet_by_octet(*frames: bytes) -> tuple[bytes, ...]:
    """Return writes of one octet each."""
    return tuple(pieces(b"".join(frames), 1))


def unmasked(payload: bytes, opcode: int) -> bytes:
    """Return a frame without a mask."""
    return bytes((0x80 | opcode, len(payload))) + payload


def with_length(size: int, length: int, payload: bytes) -> bytes:
    """Return the frame of a text whose length is written in ``size`` octets."""
    return bytes((0x81, 0x80 | (126 if size == 2 else 127))) + length.to_bytes(size) + bytes(4) + payload


FRAMING: dict[str, Case] = {
    "empty text": case(masked(b""), then=[UNREADABLE]),
    **{f"text of {size}": case(masked(text(id_of(size))), then=[answer(id_of(size))]) for size in SIZES},
    "text of 65536 in pieces": case(*pieces(masked(text(id_of(65536))), 997), then=[answer(id_of(65536))]),
    "empty binary": case(masked(b"", BINARY), then=[UNREADABLE]),
    **{f"binary of {size}": case(masked(b"\xfe" * size, BINARY), then=[UNREADABLE]) for size in SIZES},
    "binary of 65536 in pieces": case(*pieces(masked(b"\xfe" * 65536, BINARY), 997), then=[UNREADABLE]),
    "texts in one write": case(
        b"".join(masked(text(str(n))) for n in range(40)), then=[answer(str(n)) for n in range(40)]
    ),
    **{
        f"unmasked {name}": case(MESSAGE + unmasked(payload, opcode) + MESSAGE, then=[ANSWER, REFUSED])
        for name, payload, opcode in (
            ("text", text("u"), 1),
            ("empty text", b"", 1),
            ("binary", b"u", BINARY),
            ("ping", b"", PING),
            ("pong", b"u", PONG),
            ("close", b"\x03\xe8", CLOSE),
        )
    },
    "unmasked continuation": case(UNFINISHED + unmasked(b"", 0), then=[REFUSED]),
    "2 octets of length for 125": case(with_length(2, 125, text(id_of(125))), then=[REFUSED]),
    "8 octets of length for 126": case(with_length(8, 126, text(id_of(126))), then=[REFUSED]),
    "8 octets of length for 65535": case(with_length(8, 65535, text(id_of(65535))), then=[REFUSED]),
    "highest bit of a length": case(with_length(8, 1 << 63, b"x"), then=[REFUSED]),
    "all bits of a length": case(with_length(8, (1 << 64) - 1, b"x"), then=[REFUSED]),
}

PINGS: dict[str, Case] = {
    "empty ping": case(masked(b"", PING), then=[pong()]),
    "ping with text": case(masked(b"hello", PING), then=[pong(b"hello")]),
    "ping with any octets": case(
        masked(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", PING), then=[pong(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]
    ),
    "ping of 125": case(masked(b"\xfe" * 125, PING), then=[pong(b"\xfe" * 125)]),
    "ping of 125, octet by octet": case(*octet_by_octet(masked(b"\xfe" * 125, PING)), then=[pong(b"\xfe" * 125)]),
    "ping of 126": case(masked(b"\xfe" * 126, PING), then=[REFUSED]),
    "unsolicited pong": case(masked(b"", PONG)),
    "unsolicited pong with content": case(masked(b"unsolicited", PONG)),
    "unsolicited pong, then ping": case(masked(b"unsolicited", PONG) + masked(b"p", PING), then=[pong(b"p")]),
    "ten pings in one write": case(
        b"".join(masked(b"%d" % n, PING) for n in range(10)), then=[pong(b"%d" % n) for n in range(10)]
    ),
    "ten pings, octet by octet": case(
        *octet_by_octet(*(masked(b"%d" % n, PING) for n in range(10))), then=[pong(b"%d" % n) for n in range(10)]
    ),
}

_BAD_FRAMES = {
    **{f"reserved bits {bits}": masked(text("r"), reserved=bits) for bits in range(1, 8)},
    "reserved bit of a binary message": masked(b"r", BINARY, reserved=4),
    "reserved bit of a ping": masked(b"r", PING, reserved=1),
    "reserved bit of a pong": masked(b"r", PONG, reserved=2),
    "reserved bit of a close": masked(b"\x03\xe8", CLOSE, reserved=7),
}
_BAD_OPCODES = {
    f"opcode {opcode}, {len(payload)} octets": masked(payload, opcode)
    for opcode in (*range(3, 8), *range(11, 16))
    for payload in (b"", b"x", text("o"))
}


def refused(frames: dict[str, bytes]) -> dict[str, Case]:
    """Return cases in which a frame is refused after a message that is answered, and before a ping that is not."""
    return {
        name + how: case(*writes(MESSAGE + frame + masked(b"", PING)), then=[ANSWER, REFUSED])
        for name, frame in frames.items()
        for how, writes in (("", lambda data: (data,)), (", octet by octet", octet_by_octet))
    }


RESERVED_BITS = refused(_BAD_FRAMES) | {
    "reserved bit of a continuation": case(UNFINISHED + masked(b"", 0, reserved=4), then=[REFUSED])
}
OPCODES = refused(_BAD_OPCODES) | {
    "unknown opcode within a message": case(UNFINISHED + masked(b"", 3), then=[REFUSED]),
    "unknown control opcode within a message": case(UNFINISHED + masked(b"", 11), then=[REFUSED]),
}

PING_BETWEEN = masked(b"p", PING)

FRAGMENTATION: dict[str, Case] = {
    "ping in fragments": case(masked(b"a", PING, final=False), masked(b"b", 0), then=[REFUSED]),
    "pong in fragments": case(masked(b"a", PONG, final=False), masked(b"b", 0), then=[REFUSED]),
    "close in fragments": case(masked(b"\x03", CLOSE, final=False), masked(b"\xe8", 0), then=[REFUSED]),
    "text in fragments": case(*TEXT_FRAGMENTS, then=[answer("abc")]),
    "text in fragments, in one write": case(b"".join(TEXT_FRAGMENTS), then=[answer("abc")]),
    "text in fragments, octet by octet": case(*octet_by_octet(*TEXT_FRAGMENTS), then=[answer("abc")]),
    "binary in fragments": case(b"".join(BINARY_FRAGMENTS), then=[UNREADABLE]),
    "ping between fragments": case(FIRST, PING_BETWEEN, SECOND, THIRD, then=[pong(b"p"), answer("abc")]),
    "ping between fragments, in one write": case(
        FIRST + PING_BETWEEN + SECOND + THIRD, then=[pong(b"p"), answer("abc")]
    ),
    "pings between all fragments, octet by octet": case(
        *octet_by_octet(FIRST, PING_BETWEEN, SECOND, PING_BETWEEN, THIRD),
        then=[pong(b"p"), pong(b"p"), answer("abc")],
    ),
    "pong between fragments": case(FIRST + masked(b"p", PONG) + SECOND + THIRD, then=[answer("abc")]),
    "close between fragments": case(FIRST + masked(b"\x03\xe8", CLOSE) + SECOND + THIRD, then=[closed(1000)]),
    "empty fragments around a text": case(
        b"".join(fragments([b"", text("e"), b"", b""])) + MESSAGE, then=[answer("e"), ANSWER]
    ),
    "text of one octet in each fragment": case(
        b"".join(fragments(pieces(text(id_of(600)), 1))), then=[answer(id_of(600))]
    ),
    "text of one octet in each fragment, with a ping behind each": case(
        b"".join(part + PING_BETWEEN for part in fragments(pieces(text("tiny"), 1))[:-1])
        + fragments(pieces(text("tiny"), 1))[-1],
        then=[pong(b"p")] * (len(text("tiny")) - 1) + [answer("tiny")],
    ),
    "messages in fragments one after another": case(
        b"".join(TEXT_FRAGMENTS + BINARY_FRAGMENTS + TEXT_FRAGMENTS), then=[answer("abc"), UNREADABLE, answer("abc")]
    ),
    **{
        f"{name}{how}": case(*writes, then=then)
        for name, frames, then in (
            ("continuation without a message", [masked(b"a", 0), MESSAGE], [REFUSED]),
            ("open continuation without a message", [masked(b"a", 0, final=False), MESSAGE], [REFUSED]),
            ("continuation after a message", [MESSAGE, masked(b"a", 0), MESSAGE], [ANSWER, REFUSED]),
            ("continuation after a message in fragments", [*TEXT_FRAGMENTS, masked(b"a", 0)], [answer("abc"), REFUSED]),
            ("text within a text", [FIRST, MESSAGE, SECOND], [REFUSED]),
            ("binary within a text", [FIRST, masked(b"b", BINARY)], [REFUSED]),
            ("text within a binary", [BINARY_FRAGMENTS[0], MESSAGE], [REFUSED]),
            (
                "text in fragments within a text",
                [FIRST, PING_BETWEEN, FIRST],
                [pong(b"p"), REFUSED],
            ),
            ("text within a message that began empty", [masked(b"", final=False), MESSAGE], [REFUSED]),
        )
        for how, writes in (
            ("", frames),
            (", in one write", [b"".join(frames)]),
            (", octet by octet", octet_by_octet(*frames)),
        )
    },
}
