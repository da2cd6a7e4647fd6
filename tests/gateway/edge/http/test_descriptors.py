"""The process' limit of open file descriptors, and the reserve below it."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable

import pytest

from gateway.edge.http.descriptors import DescriptorReserve, raise_limit, usable_descriptors
from gateway.limited_log import LimitedLog


class FakeSocket:
    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


class DescriptorTransport:
    """Transport of a connection whose socket has a given descriptor."""

    def __init__(self, number: int) -> None:
        self._socket = FakeSocket(number)

    def get_extra_info(self, name: str, default: object = None) -> object:
        assert name == "socket"
        return self._socket


@pytest.fixture
def set_limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Replace the limits of the process by fakes; the returned list has all limits since."""

    def replace(soft: int, hard: int) -> list[tuple[int, int]]:
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda which, values: limits.append(values))
        return limits

    return replace


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [(1024, 20_000, 20_000), (1024, resource.RLIM_INFINITY, 1 << 20), (20_000, 20_000, 20_000)],
)
def test_soft_limit_is_raised_to_the_hard_one(
    set_limits: Callable[[int, int], list[tuple[int, int]]],
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    raised: int,
) -> None:
    limits = set_limits(soft, hard)
    assert raise_limit() == raised
    assert limits[-1][0] == raised
    assert caplog.records == []


def test_low_limit_of_descriptors_is_warned_about(
    set_limits: Callable[[int, int], list[tuple[int, int]]], caplog: pytest.LogCaptureFixture
) -> None:
    set_limits(1024, 1024)
    assert raise_limit() == 1024
    (record,) = caplog.records
    assert (
        "only 1024 file descriptors may be open, enough for about 896 clients: raise LimitNOFILE" in record.getMessage()
    )


@pytest.mark.parametrize(("limit", "left"), [(1024, 896), (20_000, 19_744)])
def test_reserve_is_not_usable(limit: int, left: int) -> None:
    assert usable_descriptors(limit) == left


def test_last_descriptors_are_in_the_reserve_and_warned_about_once(
    set_limits: Callable[[int, int], list[tuple[int, int]]], caplog: pytest.LogCaptureFixture
) -> None:
    set_limits(1024, 1024)
    reserve = DescriptorReserve(LimitedLog(logging.getLogger("portunus.http"), lambda: 0.0))
    transports = [DescriptorTransport(number) for number in (895, 896, 1000)]
    used = [reserve.is_used_by(transport) for transport in transports]  # type: ignore[arg-type]
    assert used == [False, True, True]
    assert not reserve.is_used_by(None)
    assert len(caplog.records) == 1
