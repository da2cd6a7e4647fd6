"""ICE candidates: the parser, and the filter for clients' candidates before they reach the SFU.

Source: RFC 8839 5.1 (the line), reference 5.2 (errors) and 9.4 (the filter).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sdp.document import Description, SdpError

_CANDIDATE = re.compile(
    r"(?P<foundation>[!-~]{1,32}) (?P<component>[0-9]{1,5}) (?P<protocol>[!-~]+) (?P<priority>[0-9]{1,10})"
    r" (?P<address>[!-~]+) (?P<port>[0-9]{1,5}) typ (?P<type>[!-~]+)"
    r"(?: raddr (?P<related>[!-~]+))?(?: rport (?P<related_port>[0-9]{1,5}))?(?P<extensions>(?: [!-~]*)*)"
)
_TYPES = frozenset(("host", "srflx", "prflx", "relay"))
_LINE_PREFIX = "a=candidate:"
MAX_CANDIDATES = 256  # of one description
MAX_OF_SECTION = 64  # of one media section; clients gather a few for each of their addresses

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class CandidateError(SdpError):
    """A candidate line of a description is malformed; names its media section."""

    def __init__(self, kind: str, index: int, text: str) -> None:
        super().__init__(text)
        self.kind = kind  # "audio", "video", ...
        self.index = index  # of the media section, from 0
        self.text = text


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate: a transport address of a peer."""

    foundation: str
    component: int  # 1 = RTP, 2 = RTCP
    protocol: str  # "udp" or "tcp", lower case
    priority: int
    address: str  # as written: an IP literal or a host name
    port: int
    type: str  # "host", "srflx", "prflx", "relay"
    related_address: str | None = None
    related_port: int | None = None


def parse(text: str) -> Candidate:
    """Parse a candidate, with or without the prefix ``a=``.

    The empty text, which marks the end of candidates, is an error here: the caller handles it first.

    Raises:
        SdpError: the text is not a candidate.
    """
    body = text.strip(" \r\n").removeprefix("a=")
    if not body.startswith("candidate:"):
        raise SdpError("Not a candidate.")
    match = _CANDIDATE.fullmatch(body.removeprefix("candidate:").lstrip(" "))
    if match is None:
        raise SdpError("The candidate is malformed.")
    fields = match.groupdict()
    if int(fields["port"]) > 65535 or int(fields["related_port"] or 0) > 65535:
        raise SdpError("The candidate's port is out of range.")
    if fields["type"] not in _TYPES:
        raise SdpError("The candidate is of unknown type.")
    return Candidate(
        foundation=fields["foundation"],
        component=int(fields["component"]),
        protocol=fields["protocol"].lower(),
        priority=int(fields["priority"]),
        address=fields["address"],
        port=int(fields["port"]),
        type=fields["type"],
        related_address=fields["related"],
        related_port=None if fields["related_port"] is None else int(fields["related_port"]),
    )


class CandidateFilter:
    """Decides which candidates of clients are used, by an allow list and a block list (reference 9.4).

    The allow list only makes exceptions to the block list; alone it blocks nothing.
    """

    def __init__(self, allowed: Iterable[str] = (), blocked: Iterable[str] = ()) -> None:
        """Parse the lists: addresses (``192.0.2.1``) and networks (``192.0.2.0/24``).

        Raises:
            ValueError: an entry is neither; the message names it.
        """
        self._allowed = tuple(_network(entry) for entry in allowed)
        self._blocked = tuple(_network(entry) for entry in blocked)

    def accepts(self, text: str) -> bool:
        """Return whether a candidate, or the empty text that marks the end of candidates, may be sent to the SFU.

        Never accepted: a malformed candidate, a host name (mDNS), an address with a zone, an unspecified address.
        """
        if not text:
            return True
        try:
            address = _address(parse(text).address)
        except ValueError:
            return False
        if address.is_unspecified:
            return False
        return _within(address, self._allowed) or not _within(address, self._blocked)


def filter_description(description: Description, candidate_filter: CandidateFilter) -> int:
    """Remove the candidate lines that the filter does not accept, on the session level too; return their number.

    Some parsers also split lines at other line breaks than LF: a line is removed if any of its parts is a candidate
    that the filter does not accept. Attribute names match in any case, as in Janus' parser.
    """

    def unwanted(line: str) -> bool:
        if "candidate" not in line.lower():
            return False
        pieces = (piece for piece in line.splitlines() if piece[: len(_LINE_PREFIX)].lower() == _LINE_PREFIX)
        return not all(candidate_filter.accepts(_LINE_PREFIX + piece[len(_LINE_PREFIX) :]) for piece in pieces)

    return sum(section.remove(unwanted) for section in description.sections())


def drop_excess(description: Description) -> None:
    """Remove repeated candidates from each section of a description in normal form, and the oldest above the limits.

    Chromium lists the candidates of every transport that a section ever had, the newest last.
    """
    left = MAX_CANDIDATES
    for section in description.sections():
        listed = section.attributes("candidate")
        newest = list(dict.fromkeys(reversed(listed)))[: min(MAX_OF_SECTION, left)]
        left -= len(newest)
        if len(newest) < len(listed):
            section.remove(_superseded_test(listed, frozenset(newest)))


def _superseded_test(listed: list[str], kept: frozenset[str]) -> Callable[[str], bool]:
    """Return a predicate for the lines in order: whether a line is a candidate not kept, or repeated below."""
    below = Counter(listed)

    def unwanted(line: str) -> bool:
        value = line.removeprefix(_LINE_PREFIX)
        if value == line:
            return False
        below[value] -= 1
        return below[value] > 0 or value not in kept

    return unwanted


def check(description: Description) -> None:
    """Check that each candidate of the media sections is well-formed.

    Raises:
        CandidateError: a candidate is malformed.
    """
    for index, section in enumerate(description.media):
        for value in section.attributes("candidate"):
            try:
                parse(f"candidate:{value}")
            except SdpError as error:
                raise CandidateError(section.kind, index, str(error)) from None


def _address(text: str) -> Address:
    """Parse an address as it is used on the wire: an IPv4-mapped IPv6 address is the IPv4 address."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        raise ValueError("An address with a zone cannot be reached from another host.")
    return address.ipv4_mapped or address


def _network(entry: str) -> Network:
    try:
        _address(entry.strip().partition("/")[0])
        network = ip_network(entry.strip(), strict=False)
        address = _address(str(network.network_address))
    except ValueError:
        raise ValueError(f"Neither an address nor a network: {entry!r}") from None
    if isinstance(address, IPv4Address) and network.prefixlen >= network.max_prefixlen - 32:
        return IPv4Network((address, network.prefixlen - network.max_prefixlen + 32))
    return network


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
