"""Session descriptions for tests without media."""

from __future__ import annotations

_FORMATS = {"audio": "111", "video": "96 102", "application": "webrtc-datachannel"}
_ATTRIBUTES = {
    "audio": ("rtpmap:111 opus/48000/2",),
    "video": ("rtpmap:96 VP8/90000", "rtpmap:102 H264/90000", "fmtp:102 packetization-mode=1"),
    "application": ("sctp-port:5000",),
}


def description(
    connection: str, media: tuple[str, ...] = ("audio", "video"), candidates: tuple[str, ...] = (), *, setup: str
) -> str:
    """Return a description; ufrag and fingerprint follow from ``connection``, a name of the PeerConnection."""
    fingerprint = ":".join(f"{byte:02X}" for byte in connection.encode().ljust(32, b".")[:32])
    ufrag = connection.encode().hex()[:16].ljust(8, "0")
    lines = ["v=0", "o=- 4611 2 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=fingerprint:sha-256 {fingerprint}"]
    for mid, kind in enumerate(media):
        protocol = "UDP/DTLS/SCTP" if kind == "application" else "UDP/TLS/RTP/SAVPF"
        lines += [f"m={kind} 9 {protocol} {_FORMATS[kind]}", "c=IN IP4 0.0.0.0", f"a=mid:{mid}"]
        lines += [f"a=ice-ufrag:{ufrag}", "a=ice-pwd:0123456789012345678901", f"a=setup:{setup}"]
        lines += ["a=rtcp-mux", "a=sendrecv"] if kind != "application" else []
        lines += [f"a={attribute}" for attribute in _ATTRIBUTES[kind]]
        lines += [f"a={candidate}" for candidate in candidates]
    return "".join(f"{line}\r\n" for line in lines)


def offer(
    connection: str = "one", media: tuple[str, ...] = ("audio", "video"), candidates: tuple[str, ...] = ()
) -> str:
    """Return an offer of a publishing client."""
    return description(connection, media, candidates, setup="actpass")


def answer(connection: str = "subscriber") -> str:
    """Return the answer of a subscribing client."""
    return description(connection, setup="active")


def subscriber_offer(name: str) -> str:
    """Return an offer of the SFU to a subscriber; ``name`` distinguishes it from other offers."""
    return description(name, setup="actpass")


_ANSWERED_DIRECTION = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


def answer_to(offer: str) -> str:
    """Return the fake SFU's answer: it accepts every section of the offer that is not rejected."""
    sections = offer.split("m=")[1:]
    kinds = tuple(section.split(" ", 1)[0] for section in sections)
    answered = description("sfu", kinds, setup="passive").split("m=")
    for index, section in enumerate(sections, start=1):
        _, port, _, *formats = section.partition("\r\n")[0].split(" ")
        kind, _, protocol, *_ = answered[index].partition("\r\n")[0].split(" ")
        media = " ".join((kind, "0" if port == "0" else "9", protocol, *formats))
        rest = answered[index][answered[index].index("\r\n") :]
        direction = next((name for name in _ANSWERED_DIRECTION if f"a={name}" in section), "sendrecv")
        answered[index] = media + rest.replace("a=sendrecv", f"a={_ANSWERED_DIRECTION[direction]}")
    return "m=".join(answered)


ANSWER = answer_to(offer())
CANDIDATE = "candidate:1 1 udp 2122260223 203.0.113.7 50000 typ host generation 0"
