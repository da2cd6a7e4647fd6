"""The sids of ended connections: how long and how many of them are remembered (reference 9.4)."""

from __future__ import annotations

from gateway.core.former_sids import LIFETIME, MAX_SID_LENGTH, MAX_SIDS, FormerSids


def test_sid_is_known_for_its_own_stream_until_the_end_of_its_lifetime() -> None:
    sids = FormerSids()
    sids.add("camera", "1", 10.0)
    assert sids.contains("camera", "1", 10.0)
    assert not sids.contains("screen", "1", 10.0)
    assert not sids.contains("camera", "2", 10.0)
    assert sids.contains("camera", "1", 9.9 + LIFETIME)
    assert not sids.contains("camera", "1", 10.0 + LIFETIME)


def test_lifetime_begins_anew_with_each_end() -> None:
    sids = FormerSids()
    sids.add("camera", "1", 0.0)
    sids.add("camera", "2", 1.0)
    sids.add("camera", "1", 2.0)
    assert sids.contains("camera", "1", LIFETIME)
    assert not sids.contains("camera", "2", 1.0 + LIFETIME)
    assert sids.contains("camera", "1", 1.0 + LIFETIME)


def test_latest_sids_are_remembered_unless_they_are_empty_or_too_long() -> None:
    sids = FormerSids()
    for number in range(MAX_SIDS + 1):
        sids.add("camera", str(number), 0.0)
    assert [sids.contains("camera", str(number), 0.0) for number in (0, 1, MAX_SIDS)] == [False, True, True]
    for sid in ("", "x" * (MAX_SID_LENGTH + 1)):
        sids.add("camera", sid, 0.0)
        assert not sids.contains("camera", sid, 0.0)
    assert sids.contains("camera", "1", 0.0)


def test_expired_sids_are_removed_when_another_one_is_added() -> None:
    sids = FormerSids()
    for number in range(MAX_SIDS):
        sids.add("camera", str(number), 0.0)
    sids.add("camera", "last", LIFETIME)
    assert len(sids._ended) == 1
