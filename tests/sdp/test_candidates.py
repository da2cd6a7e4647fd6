"""Candidates are parsed as peers write them; the filter refuses unusable ones."""

from __future__ import annotations

import pytest

from sdp.candidates import (
    MAX_CANDIDATES,
    MAX_OF_SECTION,
    Candidate,
    CandidateError,
    CandidateFilter,
    check,
    drop_excess,
    filter_description,
    parse,
)
from sdp.document import SdpError
from sdp.document import parse as parse_description

HOST = "candidate:1 1 udp 2113937151 192.0.2.7 54321 typ host"


def candidate_at(address: str) -> str:
    return f"candidate:1 1 udp 2113937151 {address} 54321 typ host"


@pytest.mark.parametrize(
    "text",
    [
        HOST,
        f"a={HOST}",
        f"a={HOST}\r\n",
        f" {HOST}",
        HOST.replace(":", ": "),
        f"{HOST} ",
        f"{HOST} generation 0 ufrag x",
    ],
)
def test_candidate_is_parsed_with_and_without_prefix_and_extensions(text: str) -> None:
    assert parse(text) == Candidate("1", 1, "udp", 2113937151, "192.0.2.7", 54321, "host")


def test_related_address_and_tcp_are_parsed() -> None:
    text = "candidate:0 2 TCP 1 2001:db8::1 9 typ srflx raddr 192.0.2.8 rport 9 tcptype active"
    assert parse(text) == Candidate("0", 2, "tcp", 1, "2001:db8::1", 9, "srflx", "192.0.2.8", 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "candidate:",
        "hello",
        HOST.removesuffix(" typ host"),
        HOST.replace("host", "toast"),
        HOST.replace("54321", "65536"),
        HOST.replace("54321", "٥"),
        HOST.replace("2113937151", "9" * 9999),
        HOST.replace("candidate:1", "candidate:" + "1" * 33),
        f"{HOST} raddr 192.0.2.1 rport 65536",
        f"{HOST}\r\na={HOST}",
        f"{HOST}\x00",
        HOST.replace(" 1 udp", "\u20281 udp"),
        candidate_at("192.0.2.7\ud800"),
    ],
)
def test_malformed_candidate_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse(text)
    assert "192.0.2" not in str(caught.value)


# reference 9.4-b
@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "::ffff:0.0.0.0", "fe80::1%eth0", "3f6e-1.local", "host.example", "192.0.2", "1", "٣.0.0.1"],
)
def test_unusable_addresses_are_never_accepted(address: str) -> None:
    assert not CandidateFilter().accepts(candidate_at(address))
    assert not CandidateFilter(allowed=["0.0.0.0/0", "::/0"]).accepts(candidate_at(address))


@pytest.mark.parametrize("text", ["garbage", "candidate:garbage", candidate_at("192.0.2.7") + "\x00", " "])
def test_malformed_candidate_is_not_accepted(text: str) -> None:
    assert not CandidateFilter().accepts(text)


# reference 5.2-f
def test_filter_without_lists_accepts_all_and_the_end_of_candidates() -> None:
    assert CandidateFilter().accepts("")
    assert CandidateFilter().accepts(HOST)
    assert CandidateFilter().accepts(candidate_at("2001:db8::1"))
    assert CandidateFilter().accepts("candidate:0 1 TCP 1 192.0.2.7 9 typ host tcptype active")


# reference 9.4-b
def test_allow_list_makes_exceptions_and_blocks_nothing_by_itself() -> None:
    assert CandidateFilter(allowed=["198.51.100.0/24"]).accepts(HOST)
    assert not CandidateFilter(blocked=["192.0.2.0/24"]).accepts(HOST)
    assert not CandidateFilter(allowed=["192.0.2.8"], blocked=["192.0.2.0/24"]).accepts(HOST)
    assert CandidateFilter(allowed=["192.0.2.7"], blocked=["192.0.2.0/24"]).accepts(HOST)
    assert CandidateFilter(blocked=["192.0.2.0/24"]).accepts(candidate_at("2001:db8::1"))


@pytest.mark.parametrize("blocked", ["192.0.2.9/24", "::ffff:192.0.2.7", "::ffff:192.0.2.0/120"])
def test_ipv4_mapped_address_is_blocked_as_ipv4(blocked: str) -> None:
    assert not CandidateFilter(blocked=[blocked]).accepts(HOST)
    assert not CandidateFilter(blocked=[blocked]).accepts(candidate_at("::ffff:192.0.2.7"))


@pytest.mark.parametrize("entry", ["", "example.com", "192.0.2.0/33", "192.0.2", "fe80::1%eth0/64"])
def test_invalid_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="network") as caught:
        CandidateFilter(blocked=[entry])
    assert repr(entry) in str(caught.value)


TEXT = (
    f"v=0\r\na={candidate_at('x.local')}\r\n"
    f"m=audio 9 RTP/AVP 0\r\na={HOST}\r\na={candidate_at('y.local')}\r\na=candidates\r\n"
    f"m=video 9 RTP/AVP 96\r\na=Candidate:{candidate_at('z.local')[10:]}\r\na=x\ra={candidate_at('0.0.0.0')}\r\n"
    "a=x:\x0bcandidate\r\n"
)


def test_refused_candidate_lines_are_removed_on_both_levels_and_counted() -> None:
    description = parse_description(TEXT)
    assert filter_description(description, CandidateFilter()) == 4
    assert str(description) == (
        f"v=0\r\nm=audio 9 RTP/AVP 0\r\na={HOST}\r\na=candidates\r\nm=video 9 RTP/AVP 96\r\na=x:\x0bcandidate\r\n"
    )
    assert filter_description(description, CandidateFilter()) == 0


def test_malformed_candidate_line_is_reported_with_its_section() -> None:
    check(parse_description(TEXT))
    with pytest.raises(CandidateError) as caught:
        check(parse_description(TEXT + "a=candidate:nonsense\r\n"))
    assert (caught.value.kind, caught.value.index, caught.value.text) == ("video", 1, "The candidate is malformed.")


def numbered(first: int, count: int) -> str:
    return "".join(
        f"a=candidate:{number} 1 udp 1 192.0.2.7 {number} typ host\r\n" for number in range(first, first + count)
    )


def test_oldest_candidates_of_a_section_are_dropped_and_repeated_ones_kept_once() -> None:
    description = parse_description(
        f"v=0\r\nm=audio 9 RTP 0\r\n{numbered(1, 5)}a=mid:0\r\nm=video 9 RTP 96\r\n{numbered(1, 5)}a=mid:1\r\n"
        f"{numbered(3, MAX_OF_SECTION)}{numbered(4, 1)}"
    )
    drop_excess(description)
    audio, video = description.media
    assert [int(value.split()[0]) for value in audio.attributes("candidate")] == [1, 2, 3, 4, 5]
    kept = [int(value.split()[0]) for value in video.attributes("candidate")]
    assert kept == [3, *range(5, MAX_OF_SECTION + 3), 4]
    assert video.mid == "1"


def test_candidates_of_a_description_are_bounded() -> None:
    sections = "".join(f"m=audio 9 RTP 0\r\n{numbered(1, MAX_OF_SECTION)}" for _ in range(10))
    description = parse_description(f"v=0\r\n{numbered(1, 10)}{sections}")
    drop_excess(description)
    left = [len(section.attributes("candidate")) for section in description.sections()]
    assert sum(left) == MAX_CANDIDATES
    assert left[:4] == [10, MAX_OF_SECTION, MAX_OF_SECTION, MAX_OF_SECTION]
