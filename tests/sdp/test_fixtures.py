"""Every edit of every fixture changes the lines that it concerns and no others."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from sdp.candidates import check
from sdp.codecs import payloads
from sdp.document import Description, Identity, identity, parse
from tests.sdp.edits import EDITS, Edit, problems
from tests.sdp.recorded import ALL_DESCRIPTIONS, BY_ID, Recorded

each_fixture = pytest.mark.parametrize("recorded", ALL_DESCRIPTIONS, ids=[recorded.id for recorded in ALL_DESCRIPTIONS])
each_edit = pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])

UNREVEALING_ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|0\.0\.0\.0|192\.0\.2\.\d+)\b|[0-9a-f-]{36}\.local")
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|\S+\.local")


def check_edit(text: str, edit: Edit) -> Description:
    """Apply an edit, check the invariants of all edits, and return the edited description."""
    before, description = parse(text), parse(text)
    edit.apply(description)
    edited = str(description)
    again = parse(edited)
    assert str(again) == edited, "the result parses"
    edit.apply(again)
    assert str(again) == edited, "the second time nothing changes"
    check_lines(text.split("\n"), edited.split("\n"), edit)
    for old, new in zip(before.media, description.media, strict=True):
        assert problems(new) <= problems(old)
    return description


def check_lines(old: list[str], new: list[str], edit: Edit) -> None:
    """Check that only lines that the edit concerns were removed or added, and that all others kept their order."""
    removed, added = Counter(old) - Counter(new), Counter(new) - Counter(old)
    assert [line for line in removed if not edit.removes.match(line)] == []
    assert [line for line in added if not edit.adds.match(line)] == []
    touched = {line for line in (*old, *new) if edit.removes.match(line) or edit.adds.match(line)}
    assert [line for line in old if line not in touched] == [line for line in new if line not in touched]


def test_fixtures_are_of_all_programs_and_name_their_versions() -> None:
    assert {recorded.program for recorded in ALL_DESCRIPTIONS} == {"aiortc", "chromium", "firefox", "janus"}
    assert all(re.search(r"\d+\.\d+", recorded.version) for recorded in ALL_DESCRIPTIONS)
    assert {(recorded.program, recorded.type) for recorded in ALL_DESCRIPTIONS} == {
        (program, type) for program in ("aiortc", "chromium", "firefox", "janus") for type in ("offer", "answer")
    }
    assert all(recorded.type == "offer" or recorded.answers in BY_ID for recorded in ALL_DESCRIPTIONS)


@pytest.mark.parametrize(
    ("id", "pattern"),
    [
        ("chromium/simulcast.offer.sdp", r"a=simulcast:send h;m;l"),
        ("firefox/simulcast.offer.sdp", r"a=rid:h send"),
        ("chromium/red-first.offer.sdp", r"m=audio \d+ \S+ 63 111"),
        ("chromium/camera.offer.sdp", r"(?s)profile-level-id=42001f.*profile-level-id=42e01f.*profile-level-id=4d001f"),
        ("chromium/camera.offer.sdp", r"(?s)profile-id=0.*profile-id=2.* red/90000.* ulpfec/90000"),
        ("chromium/receive-only.offer.sdp", r"AV1/90000\r\n(.*\r\n)+a=fmtp:\d+ level-idx=\d+;profile=1"),
        ("chromium/screen.offer.sdp", r"m=video"),
        ("chromium/camera-stopped.offer.sdp", r"m=video 0 "),
        ("firefox/h264-only-of-chromium.answer.sdp", r"m=video 0 "),
        ("firefox/max-bundle.offer.sdp", r"m=video 0 (.*\r\n)+a=bundle-only"),
        ("janus/subscriber-without-video-vp8.offer.sdp", r"m=video 9 .*\r\n.*\r\na=inactive"),
    ],
)
def test_fixtures_contain_the_lines_that_they_were_made_for(id: str, pattern: str) -> None:
    assert re.search(pattern, BY_ID[id].text)


@each_fixture
def test_fixtures_are_serialised_byte_for_byte(recorded: Recorded) -> None:
    assert str(parse(recorded.text)) == recorded.text
    assert recorded.text.count("\r\n") == recorded.text.count("\n") > 5


@each_fixture
def test_fixtures_have_identity_mids_and_payload_types(recorded: Recorded) -> None:
    description = parse(recorded.text)
    check(description)
    found = identity(description)
    assert found.ufrags
    assert found.fingerprints
    for section in description.media:
        assert section.rejected or section.mid is not None
        assert problems(section) == set()
        assert [str(payload.type) for payload in payloads(section)] == [
            token for token in section.formats if section.is_rtp
        ]


@each_fixture
def test_fixtures_name_no_address_of_the_machine_that_made_them(recorded: Recorded) -> None:
    found = {address for line in recorded.text.split("\n") for address in ADDRESS.findall(line)}
    assert {address for address in found if not UNREVEALING_ADDRESS.search(address)} == set()


@each_edit
@each_fixture
def test_edit_changes_only_the_lines_that_it_concerns(recorded: Recorded, edit: Edit) -> None:
    description = check_edit(recorded.text, edit)
    for section in description.media:
        assert problems(section) == set()


@each_fixture
def test_all_edits_in_sequence_leave_a_consistent_description(recorded: Recorded) -> None:
    description = parse(recorded.text)
    for edit in EDITS:
        edit.apply(description)
    assert str(parse(str(description))) == str(description)
    assert [problems(section) for section in description.media] == [set()] * len(description.media)


def identity_of(id: str) -> Identity:
    return identity(parse(BY_ID[id].text))


def test_offers_of_different_peer_connections_have_different_identities() -> None:
    offers = [
        identity(parse(each.text))
        for each in ALL_DESCRIPTIONS
        if each.type == "offer" and each.program != "janus" and not each.name.endswith("-before")
    ]
    assert not any(first.same_peer_connection(second) for first, second in combinations(offers, 2))


@pytest.mark.parametrize("program", ["chromium", "firefox"])
@pytest.mark.parametrize("change", ["camera-added", "camera-stopped", "ice-restarted"])
def test_renegotiation_keeps_the_peer_connection_and_ice_unless_restarted(program: str, change: str) -> None:
    before, after = identity_of(f"{program}/{change}-before.offer.sdp"), identity_of(f"{program}/{change}.offer.sdp")
    assert after.same_peer_connection(before)
    assert after.restarts_ice(before) is (change == "ice-restarted")


def test_subscription_that_janus_renegotiates_keeps_its_peer_connection() -> None:
    first = identity_of("janus/subscriber-vp8.offer.sdp")
    for name in ("subscriber-without-video-vp8", "subscriber-again-vp8"):
        later = identity_of(f"janus/{name}.offer.sdp")
        assert later.same_peer_connection(first)
        assert not later.restarts_ice(first)
