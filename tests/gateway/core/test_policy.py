"""The quality rules: the shares of bitrate, the order of codecs, and the reasons that are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import BackendQualityRules, QualityRules
from gateway.core.policy import DecodableCodecs, StreamDemand, choose_codecs, max_bitrate, share_bitrate

CAMERA = StreamDemand(screen=False)
SCREEN = StreamDemand(screen=True)

rates = st.integers(64_000, 5_000_000)
rate_or_none = st.one_of(st.just(0), rates)


@st.composite
def quality_rules(draw: st.DrawFn) -> QualityRules:
    floor = draw(st.integers(16_000, 400_000))
    ceiling = draw(st.one_of(st.just(0), st.integers(floor, 2_000_000)))
    return QualityRules(
        room_budget=draw(rates),
        floor=floor,
        ceiling=ceiling,
        one_to_one=draw(rate_or_none),
        screen=draw(ceiling_or_none(floor)),
    )


def ceiling_or_none(floor: int) -> st.SearchStrategy[int]:
    return st.one_of(st.just(0), st.integers(floor, 2_000_000))


streams = st.builds(StreamDemand, screen=st.booleans(), video=st.booleans(), requested=rate_or_none, limit=rate_or_none)
calls = st.lists(streams, min_size=1, max_size=30)


@given(quality_rules(), calls, st.integers(0, 40))
def test_sum_of_shares_is_never_above_the_budget(rules: QualityRules, call: list[StreamDemand], sessions: int) -> None:
    found = share_bitrate(rules, call, sessions)
    video = [share.bitrate for share, stream in zip(found, call, strict=True) if stream.video]
    assert sum(video) <= rules.room_budget
    assert all(bits > 0 for bits in video)  # 0 would be no limit at all


@given(quality_rules(), calls, st.integers(0, 40))
def test_no_share_is_above_a_limit(rules: QualityRules, call: list[StreamDemand], sessions: int) -> None:
    for share, stream in zip(share_bitrate(rules, call, sessions), call, strict=True):
        if stream.screen:
            ceiling = rules.screen
        elif sessions <= 2:
            ceiling = max(rules.ceiling, rules.one_to_one) if rules.ceiling else 0
        else:
            ceiling = rules.ceiling
        for cap in (ceiling, stream.requested, stream.limit):
            assert not cap or 0 < share.bitrate <= cap
        limit = max_bitrate(rules, stream.limit, screen=stream.screen)
        assert not limit or not stream.video or 0 < share.bitrate <= limit


@given(quality_rules(), calls, st.integers(0, 40))
def test_no_share_is_below_a_floor_that_fits(rules: QualityRules, call: list[StreamDemand], sessions: int) -> None:
    found = [(s.bitrate, stream) for s, stream in zip(share_bitrate(rules, call, sessions), call, strict=True)]
    video = [(bits, stream) for bits, stream in found if stream.video]
    if rules.floor * len(video) <= rules.room_budget:
        for bits, stream in video:
            assert bits >= min(rules.floor, stream.requested or rules.floor, stream.limit or rules.floor)


@given(quality_rules(), calls, streams, st.integers(0, 40), st.integers(0, 2))
def test_additional_publisher_increases_no_share(
    rules: QualityRules, call: list[StreamDemand], additional: StreamDemand, sessions: int, more: int
) -> None:
    before = share_bitrate(rules, call, sessions)
    after = share_bitrate(rules, [*call, additional], sessions + more)
    assert all(new.bitrate <= old.bitrate for new, old in zip(after, before, strict=False))


@given(quality_rules(), st.lists(st.just(CAMERA), min_size=3, max_size=20))
def test_cameras_share_the_whole_budget_evenly(rules: QualityRules, call: list[StreamDemand]) -> None:
    found = {share.bitrate for share in share_bitrate(rules, call, 9)}
    even = rules.room_budget // len(call)
    assert found == {min(even, rules.ceiling or even)}


def bitrates_and_reasons(rules: QualityRules, *call: StreamDemand, sessions: int = 9) -> list[tuple[int, str]]:
    return [(share.bitrate, share.reason) for share in share_bitrate(rules, call, sessions)]


def test_without_a_budget_each_stream_has_its_own_limit() -> None:
    assert bitrates_and_reasons(QualityRules(), CAMERA) == [(0, "nothing limits it")]
    assert bitrates_and_reasons(QualityRules(), StreamDemand(screen=False, requested=500_000, limit=900_000)) == [
        (500_000, "its client asked for no more")
    ]
    limited = StreamDemand(screen=True, limit=900_000), StreamDemand(screen=False, limit=900_000)
    assert bitrates_and_reasons(QualityRules(), *limited) == [
        (900_000, "screens are limited to 900 kbit/s"),
        (900_000, "cameras are limited to 900 kbit/s"),
    ]


def test_camera_in_a_one_to_one_call_may_have_more() -> None:
    rules = QualityRules(ceiling=400_000, one_to_one=1_000_000)
    of_two = [(1_000_000, "a camera in a call of 2 may have up to 1000 kbit/s")] * 2
    assert bitrates_and_reasons(rules, CAMERA, CAMERA, sessions=2) == of_two
    reason = "a camera may have up to 400 kbit/s in a call of more than 2"
    assert bitrates_and_reasons(rules, CAMERA, CAMERA, sessions=3) == [(400_000, reason)] * 2
    assert bitrates_and_reasons(QualityRules(ceiling=400_000), CAMERA, sessions=1)[0][0] == 400_000


def test_reason_names_the_streams_that_share_the_budget() -> None:
    rules = QualityRules(room_budget=600_000, floor=100_000, screen=450_000)
    assert bitrates_and_reasons(rules, CAMERA) == [(600_000, "1 video stream has the room's 600 kbit/s")]
    assert bitrates_and_reasons(rules, CAMERA, CAMERA, StreamDemand(screen=False, video=False)) == [
        (300_000, "2 video streams share the room's 600 kbit/s"),
        (300_000, "2 video streams share the room's 600 kbit/s"),
        (0, "it sends no video, so it takes nothing of the room's budget"),
    ]
    assert bitrates_and_reasons(rules, SCREEN, CAMERA) == [
        (450_000, "a screen may have up to 450 kbit/s"),
        (150_000, "1 camera has the 150 kbit/s that 1 screen left of the room's budget"),
    ]
    of_screen = "2 screens come first, except for the floor of 2 cameras, within the room's 600 kbit/s"
    of_camera = "2 cameras share the 200 kbit/s that 2 screens left of the room's budget"
    assert (
        bitrates_and_reasons(rules, SCREEN, SCREEN, CAMERA, CAMERA)
        == [(200_000, of_screen)] * 2 + [(100_000, of_camera)] * 2
    )
    below_floor = "7 video streams share the room's 600 kbit/s, which is less than the floor of 100 kbit/s for each"
    assert bitrates_and_reasons(rules, *[CAMERA] * 6, SCREEN) == [(85_714, below_floor)] * 7
    without_floor = QualityRules(room_budget=600_000)
    assert bitrates_and_reasons(without_floor, SCREEN) == [
        (600_000, "1 screen comes first within the room's 600 kbit/s")
    ]


def test_bitrate_that_a_stream_does_not_request_is_divided_among_the_other_streams() -> None:
    low_demand = StreamDemand(screen=False, requested=100_000)
    assert [
        bits for bits, _ in bitrates_and_reasons(QualityRules(room_budget=700_000), low_demand, CAMERA, CAMERA)
    ] == [
        100_000,
        300_000,
        300_000,
    ]


def test_max_bitrate_is_the_highest_that_the_policy_may_allow() -> None:
    assert max_bitrate(QualityRules(), 1_000_000, screen=False) == 1_000_000
    assert max_bitrate(QualityRules(), 0, screen=True) == 0
    rules = QualityRules(ceiling=300_000, one_to_one=700_000, screen=900_000)
    assert max_bitrate(rules, 1_000_000, screen=False) == 700_000
    assert max_bitrate(rules, 2_000_000, screen=True) == 900_000
    assert max_bitrate(QualityRules(room_budget=200_000, ceiling=300_000), 1_000_000, screen=False) == 200_000


def test_rules_of_a_backend_override_the_default_rules() -> None:
    default = QualityRules(room_budget=1, ceiling=2, videocodecs=("vp8",))
    assert BackendQualityRules().with_defaults(default) == default
    assert default.limits_bitrate
    assert not QualityRules(videocodecs=("vp8",)).limits_bitrate
    own = BackendQualityRules(room_budget=0, videocodecs=())
    assert own.with_defaults(default) == QualityRules(ceiling=2)


# -- codecs

OFFERED_CODECS = ("vp8", "vp9", "h264")


def test_without_rules_the_sfu_chooses() -> None:
    choice = choose_codecs((), (), OFFERED_CODECS, ())
    assert (choice.order, choice.removed) == ((), frozenset())
    assert choice.reason == "without a preference the SFU's order applies"


def test_preference_of_the_publisher_comes_first_if_it_is_offered() -> None:
    choice = choose_codecs((), ("av1", "h264", "h264"), OFFERED_CODECS, ())
    assert (choice.order, choice.removed, choice.reason) == (("h264",), frozenset(), "the publisher prefers it")


def test_list_of_the_server_orders_and_removes_codecs() -> None:
    choice = choose_codecs(("vp9", "vp8"), ("vp8", "h264"), OFFERED_CODECS, ())
    assert (choice.order, choice.removed) == (("vp9", "vp8"), frozenset({"h264"}))
    assert choice.reason == "the server's list says so, which is without h264"


def test_star_stands_for_the_other_codecs_in_the_publishers_order() -> None:
    choice = choose_codecs(("vp9", "*"), ("h264",), OFFERED_CODECS, ())
    assert (choice.order, choice.removed) == (("vp9", "h264", "vp8"), frozenset())
    assert choice.reason == "the server's list says so"


def test_list_without_an_offered_codec_is_not_applied() -> None:
    choice = choose_codecs(("av1",), ("h264",), OFFERED_CODECS, ())
    assert (choice.order, choice.removed) == (("h264",), frozenset())
    reason = "the server's list has none of the offered codecs, so it is not applied"
    assert choice.reason == f"the publisher prefers it; {reason}"


def test_codec_that_a_receiver_cannot_decode_comes_last() -> None:
    receivers = (DecodableCodecs(), DecodableCodecs().with_offer(["vp8", "h264"]))
    choice = choose_codecs(("vp9", "vp8"), (), OFFERED_CODECS, receivers)
    assert (choice.order, choice.removed) == (("vp8", "vp9"), frozenset({"h264"}))
    reason = "the server's list says so, which is without h264"
    assert choice.reason == f"{reason}; last come the codecs that not all of 2 receivers decode: vp9"
    assert choose_codecs((), (), OFFERED_CODECS, receivers).order == ("vp8", "h264", "vp9")
    assert choose_codecs((), (), ("vp8", "h264"), receivers).order == ()


def test_receivers_without_a_common_codec_change_nothing() -> None:
    receivers = (DecodableCodecs().with_offer(["vp8"]), DecodableCodecs().with_offer(["h264"]))
    choice = choose_codecs((), ("h264",), ("vp8", "h264"), receivers)
    assert choice.order == ("h264",)
    assert (
        choice.reason == "the publisher prefers it; no codec is decoded by all of 2 receivers, so they change nothing"
    )


def test_list_of_the_server_precedes_the_codecs_that_receivers_decode() -> None:
    choice = choose_codecs(("vp9",), (), OFFERED_CODECS, (DecodableCodecs().with_offer(["vp8"]),))
    assert (choice.order, choice.removed) == (("vp9",), frozenset({"vp8", "h264"}))
    assert choice.reason.endswith("no codec is decoded by all of 1 receiver, so they change nothing")


@given(
    st.lists(st.sampled_from([*OFFERED_CODECS, "av1", "*"])),
    st.lists(st.sampled_from([*OFFERED_CODECS, "av1"])),
    st.lists(st.sampled_from([*OFFERED_CODECS, "av1"]), min_size=1),
    st.lists(st.builds(DecodableCodecs, offered=st.frozensets(st.sampled_from([*OFFERED_CODECS, "av1"])))),
)
def test_an_offered_codec_always_remains(
    allowed: list[str], preferred: list[str], offered: list[str], receivers: list[DecodableCodecs]
) -> None:
    choice = choose_codecs(allowed, preferred, offered, receivers)
    left = set(offered) - choice.removed
    assert left
    assert set(choice.order) <= left
    assert len(set(choice.order)) == len(choice.order)


# -- decodable codecs

UNKNOWN_CODECS = DecodableCodecs()


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (UNKNOWN_CODECS, True),
        (UNKNOWN_CODECS.with_offer([]), True),  # an offer without this media kind
        (UNKNOWN_CODECS.with_offer(["vp8"]), True),
        (UNKNOWN_CODECS.with_offer(["h264"]), False),
        (UNKNOWN_CODECS.with_offer(["h264"]).with_offer(["vp8"]), True),  # camera and screen
        (UNKNOWN_CODECS.with_answer(["vp8"], accepted=True), True),
        (UNKNOWN_CODECS.with_answer(["h264"], accepted=True), True),
        (UNKNOWN_CODECS.with_answer(["vp8"], accepted=False), False),
        (
            UNKNOWN_CODECS.with_offer(["vp8"]).with_answer(["vp8"], accepted=False),
            True,
        ),  # only the stream is rejected
        (UNKNOWN_CODECS.with_offer(["h264"]).with_answer(["vp8"], accepted=True), True),
        (UNKNOWN_CODECS.with_answer(["vp8"], accepted=False).with_answer(["vp8"], accepted=True), True),
        (UNKNOWN_CODECS.with_answer(["vp8"], accepted=True).with_answer(["vp8"], accepted=False), False),
    ],
)
def test_descriptions_of_a_receiver_show_whether_it_decodes_a_codec(decoder: DecodableCodecs, expected: bool) -> None:
    assert decoder.can_decode("vp8") is expected
