"""A session description as a list of lines: each line that is not edited is serialised byte for byte.

Invariant: a description is split at LF only, and each line keeps its bytes before that LF, a CR included; unknown
lines survive.

Source: RFC 8866 (the lines), RFC 8829 5.8 (what a WebRTC peer must tolerate), RFC 8839 5.4 and RFC 8122 5 (identity).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeVar

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

_LINE = re.compile(r"[A-Za-z]=")
_PORT = re.compile(r"([0-9]{1,5})(?:/[0-9]{1,5})?")
_TOKEN = re.compile(r"[!-~]+")

_T = TypeVar("_T")


class SdpError(ValueError):
    """A description or candidate is malformed; the message names the line and never quotes it."""


class FrozenError(TypeError):
    """A frozen description was edited; only a copy can be edited."""


class Section:
    """The session level of a description, or one of its media sections.

    Its lines have no LF but keep their CR; they are edited with the methods below.
    """

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._frozen = False
        self._index: dict[str, list[tuple[int, str]]] | None = None  # attributes by name, until the next edit
        self._derived: dict[Callable[[Any], object], Any] = {}  # results by function, until the next edit

    @property
    def lines(self) -> Sequence[str]:
        """The lines, to be read only."""
        return self._lines

    def attributes(self, name: str) -> list[str]:
        """Return the values of all ``a=name:value`` lines in order; the value of a bare ``a=name`` is empty."""
        return [value for _, value in self.indexed(name)]

    def attribute(self, name: str) -> str | None:
        """Return the value of the first ``a=name`` line, ``None`` without one."""
        found = self.indexed(name)
        return found[0][1] if found else None

    def indexed(self, name: str) -> Sequence[tuple[int, str]]:
        """Return position and value of each ``a=name`` line; a later edit does not change the result."""
        if self._index is None:
            self._index = {}
            for position, line in enumerate(self._lines):
                if line.startswith("a="):
                    key, _, value = line[2:].removesuffix("\r").partition(":")
                    self._index.setdefault(key, []).append((position, value))
        return self._index.get(name, ())

    def derive(self, function: Callable[[Self], _T]) -> _T:
        """Return ``function`` of this section; call it once until the next edit. The result must be immutable."""
        if function not in self._derived:
            self._derived[function] = function(self)
        result: _T = self._derived[function]
        return result

    def remove(self, unwanted: Callable[[str], bool]) -> int:
        """Remove the lines for which ``unwanted`` holds, the ``m=`` or ``v=`` line excepted; return their number.

        ``unwanted`` receives the line without its CR.
        """
        self._require_editable()
        kept = [line for line in self._lines[1:] if not unwanted(line.removesuffix("\r"))]
        removed = len(self._lines) - 1 - len(kept)
        if removed:
            self._lines[1:] = kept
            self._index, self._derived = None, {}
        return removed

    def insert(self, position: int, lines: Iterable[str]) -> None:
        """Insert lines (without line ending) before ``position``, with the line ending of the section's first line."""
        self._require_editable()
        ending = "\r" if self._lines[0].endswith("\r") else ""
        self._lines[position:position] = [line + ending for line in lines]
        self._index, self._derived = None, {}

    def replace(self, position: int, line: str) -> None:
        """Replace the line at ``position`` by ``line`` (without line ending), keeping the line ending."""
        self._require_editable()
        ending = "\r" if self._lines[position].endswith("\r") else ""
        self._lines[position] = line + ending
        self._derived = {}
        if position:  # the first line is no attribute
            self._index = None

    def freeze(self) -> None:
        """Make each later edit raise ``FrozenError``."""
        self._frozen = True

    def copy(self) -> Self:
        """Return a copy that can be edited."""
        duplicate = self.__new__(type(self))
        vars(duplicate).update(vars(self), _lines=list(self._lines), _frozen=False, _derived=dict(self._derived))
        return duplicate

    def _require_editable(self) -> None:
        if self._frozen:
            raise FrozenError("A frozen description cannot be edited.")


class MediaSection(Section):
    """One media section: an ``m=`` line and the lines up to the next one."""

    def __init__(self, lines: list[str], number: int, direction: str) -> None:
        """Parse the ``m=`` line, line ``number`` of the text; ``direction`` is that of the session level.

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
        self._formats = tuple(fields[3:])
        self._direction = direction

    def rewrite(self, kind: str, protocol: str) -> None:
        """Write the ``m=`` line with another spelling of media type and protocol, one port and single blanks."""
        self._ports = str(self.port)
        line = " ".join((f"m={kind}", self._ports, protocol, *self._formats))
        if self._lines[0].removesuffix("\r") != line:
            self.replace(0, line)
        self.kind, self.protocol = kind, protocol

    @property
    def port(self) -> int:
        """The port of the ``m=`` line; 0 rejects the section, unless it has ``a=bundle-only`` (RFC 9143)."""
        return int(self._ports.partition("/")[0])

    @port.setter
    def port(self, port: int) -> None:
        if port != self.port:
            self.replace(0, " ".join((f"m={self.kind}", str(port), self.protocol, *self._formats)))
            self._ports = str(port)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the ``m=`` line in order: payload types where the protocol is RTP."""
        return self._formats

    @formats.setter
    def formats(self, formats: Iterable[str]) -> None:
        """Write the formats into the ``m=`` line.

        Raises:
            ValueError: ``formats`` is empty.
        """
        wanted = tuple(formats)
        if wanted == self._formats:
            return
        if not wanted:
            raise ValueError("A media description needs a format.")
        self.replace(0, " ".join((f"m={self.kind}", self._ports, self.protocol, *wanted)))
        self._formats = wanted

    @property
    def mid(self) -> str | None:
        """The media identification (RFC 5888)."""
        return self.attribute("mid")

    @property
    def direction(self) -> str:
        """One of ``DIRECTIONS``, from the point of view of the description's author."""
        return _direction(self, self._direction)

    @property
    def rejected(self) -> bool:
        """Whether the port is 0 without ``a=bundle-only`` (RFC 9143): the medium was rejected or stopped."""
        return self.port == 0 and self.attribute("bundle-only") is None

    @property
    def is_rtp(self) -> bool:
        """Whether the formats are RTP payload types."""
        return "RTP/" in self.protocol


class Description:
    """A session description; ``str`` serialises it.

    Freeze a description before it is shared: then each edit raises, and only a ``copy`` can be edited.
    """

    def __init__(self, session: Section, media: Iterable[MediaSection]) -> None:
        self.session = session
        self.media = tuple(media)

    def sections(self) -> Iterator[Section]:
        """Yield the session level, then each media section."""
        yield self.session
        yield from self.media

    def freeze(self) -> Self:
        """Make each later edit raise ``FrozenError``; return the description. Idempotent."""
        for section in self.sections():
            section.freeze()
        return self

    def copy(self) -> Description:
        """Return a copy that can be edited."""
        return Description(self.session.copy(), (section.copy() for section in self.media))

    def __str__(self) -> str:
        return "\n".join(line for section in self.sections() for line in section.lines)


def parse(text: str) -> Description:
    """Parse a description; ``str`` of the result is ``text``.

    Only the structure is checked: ``v=`` first, a type letter and ``=`` at the start of each non-empty line, ``m=``
    lines with kind, port, protocol and formats. Order and values of all other lines are not.

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
    """Return the media kinds of all sections, whether rejected or not and in any direction."""
    return frozenset(section.kind for section in description.media)


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a PeerConnection: its ICE user name fragments and certificate fingerprints."""

    ufrags: frozenset[str]
    fingerprints: frozenset[str]  # "sha-256 AB:CD:…", algorithm in lower, digits in upper case

    def same_peer_connection(self, other: Identity) -> bool:
        """Return whether both may describe one PeerConnection.

        They do if they share a user name fragment or a fingerprint, or if both lack fragments or fingerprints.
        Another user name fragment with the same fingerprint is an ICE restart.
        """
        return _overlap(self.ufrags, other.ufrags) or _overlap(self.fingerprints, other.fingerprints)

    def restarts_ice(self, other: Identity) -> bool:
        """Return whether this is the PeerConnection of ``other`` after an ICE restart."""
        return (
            bool(self.ufrags)
            and _overlap(self.fingerprints, other.fingerprints)
            and not _overlap(self.ufrags, other.ufrags)
        )


def identity(description: Description) -> Identity:
    """Return the user name fragments and fingerprints of the session level and of all media sections."""
    ufrags: set[str] = set()
    fingerprints: set[str] = set()
    for section in description.sections():
        ufrags.update(section.attributes("ice-ufrag"))
        for value in section.attributes("fingerprint"):
            algorithm, _, digits = value.partition(" ")
            fingerprints.add(f"{algorithm.lower()} {digits.strip().upper()}")
    return Identity(frozenset(ufrags), frozenset(fingerprints))


def _overlap(first: frozenset[str], second: frozenset[str]) -> bool:
    """Return whether two sets share an element or are both empty."""
    return first == second or not first.isdisjoint(second)


def _direction(section: Section, default: str) -> str:
    return next((name for name in DIRECTIONS if section.attribute(name) is not None), default)
