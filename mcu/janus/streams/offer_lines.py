"""The lines of a client's offer in the forms that Janus parses; it refuses or misreads other forms that the RFCs allow.

Janus (1.1.2 and 1.4.1) needs an ``a=rtpmap`` for every codec, also for the static payload types of RFC 3551, takes the
first one that has a codec's name whatever the order of the ``m=`` line, and knows opus with two channels only. It
refuses an ``a=msid`` without the id of a track (optional in RFC 8830 2), and takes each ``a=rid`` for a layer. It
refuses an offer as a whole if one section, even a rejected one, has a media type that it does not know, or only formats
that accompany others (rtx, red, ulpfec); an offer with ``m=application`` over RTP (H.224) it never answers. It rejects
a new section that is inactive, so that the client could not resume it; to ``recvonly`` it answers ``inactive``, for it
sends nothing to a publisher.
"""

from __future__ import annotations

from sdp.document import Description, MediaSection
from sdp.normal_form import is_supported
from sdp.payloads import payloads
from sdp.simulcast import layers, streams

_STATIC_NAMES = {"pcmu": "PCMU", "pcma": "PCMA", "g722": "G722", "gsm": "GSM", "cn": "CN"}  # of static payload types


def adapt_for_janus(offer: Description) -> Description:
    """Return the offer in Janus' forms: a copy if there is something to change, else the offer itself."""
    if any(map(_is_fatal, offer.media)):
        offer = offer.copy()
        for section in filter(_is_fatal, offer.media):
            _replace_by_rejection(section)
    changes = [(_mappings(section), _simulcast(section)) for section in offer.media]
    lacks_track = (any(len(value.split()) == 1 for value in section.attributes("msid")) for section in offer.media)
    if not any(map(_is_held, offer.media)) and not any(lacks_track) and all(one == (None, None) for one in changes):
        return offer
    copy = offer.copy()
    for section, (mappings, simulcast) in zip(copy.media, changes, strict=True):
        if mappings is not None:
            section.remove(lambda line: line.startswith("a=rtpmap:"))
            section.insert(_end(section), mappings)
        if simulcast is not None:
            section.remove(lambda line: line.startswith(("a=rid:", "a=simulcast:")))
            section.insert(_end(section), simulcast)
        if _is_held(section):
            section.remove(lambda line: line == "a=inactive")
            section.insert(_end(section), ["a=recvonly"])
        for position, value in section.indexed("msid"):
            if len(value.split()) == 1:
                section.replace(position, f"a=msid:{value.strip()} {value.strip()}")
    return copy


def _is_fatal(section: MediaSection) -> bool:
    """Return whether Janus would refuse the whole offer because of a section."""
    if not is_supported(section):
        return section.rejected
    found = payloads(section)
    return bool(found) and all(payload.is_auxiliary for payload in found)


def _replace_by_rejection(section: MediaSection) -> None:
    """Replace all of a section but its mid by a rejected section that each Janus parses; ``sdp.mending`` turns it back.

    If Janus does not know the section's medium, it becomes audio.
    """
    section.remove(lambda line: line != "" and not line.startswith("a=mid:"))
    section.formats = ("0",)
    if not is_supported(section):
        section.rewrite("audio", "UDP/TLS/RTP/SAVPF")
    section.port = 0
    section.insert(1, ["c=IN IP4 0.0.0.0", "a=inactive"])


def _is_held(section: MediaSection) -> bool:
    return not section.rejected and section.direction == "inactive"


def _mappings(section: MediaSection) -> list[str] | None:
    """Return the ``a=rtpmap`` lines that Janus needs, in the order of the formats; ``None``: the section has them."""
    by_type = {value.partition(" ")[0]: value for value in section.attributes("rtpmap")}
    wanted = []
    for payload in payloads(section):
        written = by_type.get(str(payload.type), "")
        if payload.codec == "opus" or not written:
            channels = f"/{payload.channels}" if payload.channels > 1 else ""
            written = f"{payload.type} {_STATIC_NAMES.get(payload.codec, payload.codec)}/{payload.clock_rate}{channels}"
        wanted.append(written)
    return None if wanted == section.attributes("rtpmap") else [f"a=rtpmap:{value}" for value in wanted]


def _simulcast(section: MediaSection) -> list[str] | None:
    """Return the ``a=rid`` and ``a=simulcast`` lines of the sent layers; ``None``: the section has exactly these.

    Of alternative layers (RFC 8853 5.1) the first counts. A layer needs an ``a=rid``, whose RID consists of letters and
    digits (RFC 8852).
    """
    rids = section.attributes("rid")
    if not rids and not section.attributes("simulcast"):
        return None
    sent = {words[0]: value for value in rids if (words := value.split(None, 2))[1:2] == ["send"]}
    paused = layers(section, "send")
    first = [names[0] for names in streams(section, "send")]
    named = [rid for rid in dict.fromkeys(first) if rid in sent and rid.isalnum() and rid.isascii()]
    listed = ";".join(f"~{rid}" if paused[rid] else rid for rid in named)
    if set(named) == {value.split(None, 1)[0] for value in rids if value} and section.attributes("simulcast") == [
        f"send {listed}"
    ]:
        return None
    order = [rid for rid in sent if rid in named]
    return [*(f"a=rid:{sent[rid]}" for rid in order), *([f"a=simulcast:send {listed}"] if named else [])]


def _end(section: MediaSection) -> int:
    """Return the position after the last line of a section; the empty text after a final LF is no line."""
    return len(section.lines) - (section.lines[-1] == "")
