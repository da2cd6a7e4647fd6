"""A session description as its lines: whatever is not edited is written back byte for byte.

Invariant: a description is split at LF only, and every line keeps what stood before that LF, its CR included; what we
do not understand survives.

Source: RFC 8866 (the lines), RFC 8829 5.8 (what a WebRTC peer must tolerate), RFC 8839 5.4 and RFC 8122 5 (identity).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

_LINE = re.compile(r"[A-Za-z]=")
_PORT = re.compile(r"([0-9]{1,5})(?:/[0-9]{1,5})?")
_TOKEN = re.compile(r"[!-~]+")


class SdpError(ValueError):
    """A text is not what it should be; the message names the place and never quotes the text."""


class Section:
    """The lines from one ``m=`` line to the next, or those before the first.

    ``lines`` have no LF but keep their CR; edit them through the methods below.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def attributes(self, name: str) -> list[str]:
        """Return the values of all ``a=name:value`` lines in order; a bare ``a=name`` counts as empty value."""
        return [value for _, value in self.indexed(name)]

    def attribute(self, name: str) -> str | None:
        """Return the value of the first such attribute, ``None`` where there is none."""
        return next((value for _, value in self.indexed(name)), None)

    def indexed(self, name: str) -> Iterator[tuple[int, str]]:
        """Yield the position within ``lines`` and the value of each ``a=name`` line."""
        bare = f"a={name}"
        prefix = f"{bare}:"
        for position, line in enumerate(self.lines):
            if line.startswith(prefix):
                yield position, line.removesuffix("\r")[len(prefix) :]
            elif line.removesuffix("\r") == bare:
                yield position, ""

    def remove(self, unwanted: Callable[[str], bool]) -> int:
        """Remove the lines for which ``unwanted`` holds, the ``m=`` or ``v=`` line excepted; return how many.

        ``unwanted`` is given the line without its CR.
        """
        kept = [self.lines[0]]
        kept += [line for line in self.lines[1:] if not unwanted(line.removesuffix("\r"))]
        removed = len(self.lines) - len(kept)
        self.lines = kept
        return removed

    def insert(self, position: int, lines: Iterable[str]) -> None:
        """Put lines (without line ending) before ``position``, ended as the first line of the section is."""
        ending = self._ending()
        self.lines[position:position] = [line + ending for line in lines]

    def replace(self, position: int, line: str) -> None:
        """Put ``line`` (without line ending) in place of another, keeping how that one ended."""
        ending = "\r" if self.lines[position].endswith("\r") else ""
        self.lines[position] = line + ending

    def _ending(self) -> str:
        return "\r" if self.lines[0].endswith("\r") else ""


class MediaSection(Section):
    """One ``m=`` line and what belongs to it."""

    def __init__(self, lines: list[str], number: int, direction: str) -> None:
        """Take the lines; ``number`` is the ``m=`` line's in the text, ``direction`` what the session level says.

        Raises:
            SdpError: the ``m=`` line is not well-formed.
        """
        super().__init__(lines)
        fields = lines[0].removesuffix("\r")[2:].split(" ")
        fields = [field for field in fields if field]
        port = _PORT.fullmatch(fields[1]) if len(fields) > 3 else None
        if port is None or int(port[1]) > 65535 or not all(map(_TOKEN.fullmatch, fields)):
            raise SdpError(f"Line {number}: not a media description.")
        self.kind, self._ports, self.protocol = fields[:3]
        self.port = int(port[1])
        self._formats = tuple(fields[3:])
        self._direction = direction

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats in their order: payload types where the protocol is RTP."""
        return self._formats

    @formats.setter
    def formats(self, formats: Iterable[str]) -> None:
        """Write the formats into the ``m=`` line; at least one is needed."""
        wanted = tuple(formats)
        if wanted == self._formats:
            return
        if not wanted:
            raise ValueError("A media description needs a format.")
        self._formats = wanted
        self.replace(0, " ".join((f"m={self.kind}", self._ports, self.protocol, *wanted)))

    @property
    def mid(self) -> str | None:
        """The section's identification (RFC 5888)."""
        return self.attribute("mid")

    @property
    def direction(self) -> str:
        """One of ``DIRECTIONS``, seen from the author of the description."""
        return _direction(self, self._direction)

    @property
    def rejected(self) -> bool:
        """Whether the port is 0: declined or stopped, or bundled (RFC 9143) if ``a=bundle-only`` stands there."""
        return self.port == 0 and self.attribute("bundle-only") is None

    @property
    def is_rtp(self) -> bool:
        """Whether the formats are RTP payload types."""
        return "RTP/" in self.protocol


class Description:
    """A session description; ``str`` writes it back."""

    def __init__(self, session: Section, media: list[MediaSection]) -> None:
        self.session = session
        self.media = media

    def sections(self) -> Iterator[Section]:
        """Yield the session level, then each media section."""
        yield self.session
        yield from self.media

    def __str__(self) -> str:
        return "\n".join(line for section in self.sections() for line in section.lines)


def parse(text: str) -> Description:
    """Take a description apart; ``str`` of the result is ``text``.

    Asked for is what every reader needs: ``v=`` first, ``x=`` at the start of each line that is not empty, ``m=``
    lines with kind, port, protocol and formats. Order and meaning of the rest are the peers' business.

    Raises:
        SdpError: the text is not a session description.
    """
    lines = text.split("\n")
    if not lines[0].startswith("v="):
        raise SdpError("Line 1: not the version of a session description.")
    starts: list[int] = []
    for index, line in enumerate(lines):
        if line.startswith("m="):
            starts.append(index)
        elif not _LINE.match(line) and line not in ("", "\r"):
            raise SdpError(f"Line {index + 1}: not a type, an equals sign and a value.")
    starts.append(len(lines))
    session = Section(lines[: starts[0]])
    direction = _direction(session, "sendrecv")
    media = [MediaSection(lines[start:end], start + 1, direction) for start, end in pairwise(starts)]
    return Description(session, media)


def kinds(description: Description) -> frozenset[str]:
    """Return the kinds of media that have a section, rejected ones and any direction included."""
    return frozenset(section.kind for section in description.media)


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one PeerConnection from another: ICE user name fragments and certificate fingerprints."""

    ufrags: frozenset[str]
    fingerprints: frozenset[str]  # "sha-256 AB:CD:…", algorithm in lower, digits in upper case

    def same_peer_connection(self, other: Identity) -> bool:
        """Whether both may come from one PeerConnection: user name fragment or fingerprint is shared.

        A fragment that changed beside the same fingerprint is an ICE restart.
        """
        return _meet(self.ufrags, other.ufrags) or _meet(self.fingerprints, other.fingerprints)

    def restarts_ice(self, other: Identity) -> bool:
        """Whether this is ``other``'s PeerConnection after an ICE restart."""
        return _meet(self.fingerprints, other.fingerprints) and not _meet(self.ufrags, other.ufrags)


def identity(description: Description) -> Identity:
    """Gather the user name fragments and fingerprints of the session level and of all media."""
    ufrags: set[str] = set()
    fingerprints: set[str] = set()
    for section in description.sections():
        ufrags.update(section.attributes("ice-ufrag"))
        for value in section.attributes("fingerprint"):
            algorithm, _, digits = value.partition(" ")
            fingerprints.add(f"{algorithm.lower()} {digits.strip().upper()}")
    return Identity(frozenset(ufrags), frozenset(fingerprints))


def _meet(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other or not one.isdisjoint(other)


def _direction(section: Section, default: str) -> str:
    return next((name for name in DIRECTIONS if section.attribute(name) is not None), default)
