"""Bitrates between two samples of byte counters."""

from __future__ import annotations

from mcu.inprocess.forwarding.bitrate import MIN_INTERVAL, BitrateMeter


def test_bitrate_is_the_difference_of_the_last_two_samples() -> None:
    meter = BitrateMeter(10.0)
    assert meter.bits_per_second("video") is None
    meter.sample({"video": 1000}, 12.0)
    assert meter.bits_per_second("video") == 4000
    meter.sample({"video": 1500, "audio": 100}, 13.0)
    assert (meter.bits_per_second("video"), meter.bits_per_second("audio")) == (4000, 800)


def test_sample_within_the_minimum_interval_is_ignored() -> None:
    meter = BitrateMeter(0.0)
    meter.sample({"video": 1000}, 1.0)
    meter.sample({"video": 9000}, 1.0 + MIN_INTERVAL / 2)
    assert meter.bits_per_second("video") == 8000
    meter.sample({"video": 2000}, 2.0)
    assert meter.bits_per_second("video") == 8000
