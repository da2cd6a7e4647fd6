"""The order of simulcast layers by their bit rates, and Janus' numbers for the layers that subscribers select."""

from __future__ import annotations

import re

import pytest

from mcu.janus.streams.descriptions import SerialisedOffer, rid_order, simulcast_layers, single_layer
from mcu.janus.streams.layer_order import (
    CLOSE_WATCH_MEASUREMENTS,
    CONFIRMATIONS,
    STOP_MEASUREMENTS,
    LayerOrder,
    LayerRates,
)
from sdp.document import Description
from tests.mcu.descriptions import parse_frozen
from tests.sdp.recorded import FIXTURES

REVERSED_RATES = (26_000, 13_000, 7_000)  # bytes per second, by Janus' numbers


class MeasuredLayers:
    """An order, and measurements of it a second apart."""

    def __init__(self, count: int = 3) -> None:
        self.order = LayerOrder(count)
        self.now = 0.0

    def measure(self, *rates: int, times: int = CONFIRMATIONS) -> list[bool]:
        """Pass measurements; return for each whether it has changed a number."""
        results = []
        for _ in range(times):
            self.now += 1
            results.append(self.order.observe(LayerRates(self.now, rates)))
        return results

    @property
    def numbers(self) -> list[int]:
        """Janus' numbers of the selections 0, 1, 2."""
        return [self.order.number(substream) for substream in range(3)]


def test_without_measurements_selections_are_passed_on() -> None:
    layers = MeasuredLayers()
    assert [layers.order.number(substream) for substream in (0, 1, 2, 7)] == [0, 1, 2, 7]
    assert layers.order.is_janus_order


@pytest.mark.parametrize(
    ("rates", "numbers"),
    [
        (REVERSED_RATES, [2, 1, 0]),
        ((7_000, 13_000, 26_000), [0, 1, 2]),
        ((26_000, 7_000, 13_000), [1, 2, 0]),
        ((13_000, 26_000, 7_000), [2, 0, 1]),
        ((13_000, 7_000, 26_000), [1, 0, 2]),
        ((7_000, 26_000, 13_000), [0, 2, 1]),
    ],
)
def test_rates_give_the_order(rates: tuple[int, ...], numbers: list[int]) -> None:
    layers = MeasuredLayers()
    changes = layers.measure(*rates)
    assert changes == [False] * (CONFIRMATIONS - 1) + [numbers != [0, 1, 2]]
    assert layers.numbers == numbers
    assert layers.measure(*rates) == [False] * CONFIRMATIONS


@pytest.mark.parametrize(
    "rates",
    [(10_000, 9_000, 8_000), (900, 500, 100), (26_000, 0, 0), (0, 0, 0), ()],
    ids=["similar", "too low", "one layer", "none", "empty"],
)
def test_rates_that_prove_nothing_change_nothing(rates: tuple[int, ...]) -> None:
    layers = MeasuredLayers()
    assert not any(layers.measure(*rates, times=10))
    assert layers.numbers == [0, 1, 2]


def test_an_order_needs_consecutive_measurements() -> None:
    layers = MeasuredLayers()
    for _ in range(5):
        layers.measure(*REVERSED_RATES, times=CONFIRMATIONS - 1)
        layers.measure(7_000, 13_000, 26_000, times=1)
    assert layers.numbers == [0, 1, 2]


def test_one_measurement_that_is_passed_several_times_counts_once() -> None:
    order = LayerOrder(3)
    assert not any(order.observe(LayerRates(1.0, REVERSED_RATES)) for _ in range(2 * CONFIRMATIONS))
    assert order.is_janus_order


def test_an_order_that_changes_is_followed() -> None:
    layers = MeasuredLayers()
    layers.measure(*REVERSED_RATES)
    layers.measure(*REVERSED_RATES[::-1])
    assert layers.numbers == [0, 1, 2]


def test_layers_that_are_not_sent_keep_their_places() -> None:
    layers = MeasuredLayers()
    layers.measure(26_000, 0, 7_000)
    layers.measure(26_000, 13_000, 7_000, times=1)
    assert layers.numbers == [2, 1, 0]


def test_a_stopped_layer_is_replaced_where_janus_would_not_do_it() -> None:
    layers = MeasuredLayers()
    layers.measure(*REVERSED_RATES)
    assert layers.measure(0, 13_000, 7_000, times=STOP_MEASUREMENTS) == [False] * (STOP_MEASUREMENTS - 1) + [True]
    assert layers.numbers == [2, 1, 1]
    layers.measure(0, 13_000, 0, times=STOP_MEASUREMENTS)
    assert layers.numbers == [1, 1, 1]
    layers.measure(0, 0, 0, times=STOP_MEASUREMENTS)
    assert layers.numbers == [2, 1, 0]
    layers.measure(*REVERSED_RATES, times=1)
    assert layers.numbers == [2, 1, 0]


def test_two_layers_have_no_third() -> None:
    layers = MeasuredLayers(2)
    layers.measure(26_000, 7_000, 0)
    assert layers.numbers == [1, 0, 0]


def test_an_order_is_watched_closely_until_it_is_proved() -> None:
    proved, unproved, changed = MeasuredLayers(), MeasuredLayers(), MeasuredLayers()
    assert proved.order.needs_close_watch
    proved.measure(*REVERSED_RATES[::-1])
    assert not proved.order.needs_close_watch
    unproved.measure(7_000, 0, 0, times=CLOSE_WATCH_MEASUREMENTS - 1)
    assert unproved.order.needs_close_watch
    unproved.measure(7_000, 0, 0, times=1)
    assert not unproved.order.needs_close_watch
    changed.measure(*REVERSED_RATES, times=CLOSE_WATCH_MEASUREMENTS)
    assert changed.order.needs_close_watch


# -- the layers of an offer


def simulcast_offer(rids: str) -> Description:
    """Return Chromium's offer with these layers."""
    recorded = (FIXTURES / "chromium" / "simulcast.offer.sdp").read_text()
    before = "h;m;l"
    assert before in recorded
    offer = recorded.replace(before, ";".join(rids.split()))
    lines = "".join(f"a=rid:{rid} send\r\n" for rid in rids.split())
    return parse_frozen(re.sub(r"a=rid:\w+ send\r?\n", "", offer) + lines)


def rids_sent_to_janus(offer: Description) -> list[str]:
    """Return the layers in the order of the ``a=rid`` lines, which Janus reads."""
    return re.findall(r"a=rid:(\w+) send\r\n", SerialisedOffer.of(offer).text)


@pytest.mark.parametrize(
    ("rids", "order", "sent"),
    [
        ("h m l", "hml", "h m l"),
        ("q h f", "lmh", "q h f"),
        ("l m h", "lmh", "l m h"),
        ("a b c", "lmh", "a b c"),
        ("r0 r1 r2", "lmh", "r0 r1 r2"),
        ("h q f", "lmh", "q h f"),
        ("m h l", "lmh", "l m h"),
        ("q", "", "q"),
    ],
)
def test_layers_reach_janus_in_an_order_that_it_knows(rids: str, order: str, sent: str) -> None:
    offer = simulcast_offer(rids)
    assert rid_order(offer) == order
    assert rids_sent_to_janus(offer) == sent.split()
    assert len(SerialisedOffer.of(offer).text) == len(str(offer))


def test_an_offer_without_layers_has_no_order() -> None:
    camera = parse_frozen((FIXTURES / "chromium" / "camera.offer.sdp").read_text())
    assert rid_order(camera) == ""
    assert simulcast_layers(camera, camera) is None


@pytest.mark.parametrize(
    ("rids", "kept"), [("h m l", "h"), ("q h f", "f"), ("r0 r1 r2", "r2"), ("~h m l", "m"), ("~h ~m ~l", "~h")]
)
def test_the_largest_layer_is_kept_where_janus_knows_no_layers_of_the_codec(rids: str, kept: str) -> None:
    offer = parse_frozen(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"
        "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 AV1/90000\r\n"
        + "".join(f"a=rid:{rid.strip('~')} send\r\n" for rid in rids.split())
        + f"a=simulcast:send {rids.replace(' ', ';')}\r\na=mid:0\r\n"
    )
    single = single_layer(offer, ["av1", "vp8"], {"vp8"})
    assert single is not None
    assert re.findall(r"a=(?:rid|simulcast):.*", str(single)) == [
        f"a=rid:{kept.strip('~')} send\r",
        f"a=simulcast:send {kept}\r",
    ]
    assert rid_order(single) == ""
    assert simulcast_layers(single, offer) is None
    assert single_layer(offer, ["vp8", "av1"], {"vp8"}) is None
    assert single_layer(offer, ["h264"], {"vp8"}) is None
    assert single_layer(single, ["av1"], {"vp8"}) is None  # one layer


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (["a=rid:a send", "a=rid:b send", "a=simulcast:send a;b"], 2),
        ([*(f"a=rid:{rid} send" for rid in "abcd"), "a=simulcast:send a;b;c;d"], 3),  # Janus knows three
        (["a=ssrc-group:FID 1 4", "a=ssrc-group:SIM 1 2 3"], 3),
    ],
    ids=["two names", "four names", "three SSRCs"],
)
def test_layers_have_the_mid_of_janus_answer(lines: list[str], count: int) -> None:
    start = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:x\r\n"
    video = "m=video {} UDP/TLS/RTP/SAVPF 96\r\n{}"
    offer = parse_frozen(start + video.format(9, "".join(f"{line}\r\n" for line in lines)))
    assert simulcast_layers(offer, parse_frozen(start + video.format(9, "a=mid:1\r\n"))) == ("1", count)
    assert simulcast_layers(offer, parse_frozen(start + video.format(0, "a=mid:1\r\n"))) is None
    assert simulcast_layers(offer, parse_frozen(start + video.format(9, ""))) is None
