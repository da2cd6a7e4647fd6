"""The order of the requests that clients cause at a backend."""

from __future__ import annotations

import asyncio

import pytest

from gateway.flows import backend_turns
from gateway.flows.backend_turns import BACKGROUND, PREFERENCE_LIFETIME, USERS_TIMEOUT_FACTOR, BackendTurns, NoTurn
from tests.gateway.flows.virtual_time import settle

PLACES = 8
TIMEOUT = 10.0


class QueuedBackend:
    """A backend that answers when ``answer`` is called, and records the order of its requests."""

    def __init__(self, places: int = PLACES) -> None:
        self.turns = BackendTurns(places, TIMEOUT, asyncio.get_running_loop().time)
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.answers: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def request(self, name: str, network: int | None = 1, *, known: bool = False, wanted: bool = True) -> None:
        self.answers[name] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._run(name, network, known, wanted)))

    async def _run(self, name: str, network: int | None, known: bool, wanted: bool) -> None:
        try:
            async with self.turns.turn("cloud", network, known=known, wanted=lambda: wanted):
                self.asked.append(name)
                await self.answers[name].wait()
        except NoTurn:
            self.refused.append(name)

    async def answer(self, *names: str) -> None:
        for name in names:
            self.answers[name].set()
        await settle()


# reference 3.7-h
async def test_one_address_has_half_of_the_places() -> None:
    backend = QueuedBackend()
    for number in range(900):
        backend.request(f"stranger {number}")
    await settle()
    assert backend.asked == [f"stranger {number}" for number in range(PLACES // 2)]
    backend.request("other", network=2)
    await settle()
    assert backend.asked[-1] == "other"
    await backend.answer("stranger 0")
    assert backend.asked[-1] == "stranger 4"


async def test_strangers_of_many_addresses_leave_places_for_users() -> None:
    backend = QueuedBackend()
    for number in range(900):
        backend.request(f"stranger {number}", network=number)
    await settle()
    assert len(backend.asked) == PLACES - PLACES // 4
    backend.request("user", network=5000, known=True)
    await settle()
    assert backend.asked[-1] == "user"


@pytest.mark.parametrize("places", [2, 3, 4])
async def test_one_of_few_places_is_left_for_users(places: int) -> None:
    backend = QueuedBackend(places)
    for number in range(20):
        backend.request(f"stranger {number}", network=number)
    await settle()
    assert len(backend.asked) == places - 1
    backend.request("user", network=5000, known=True)
    await settle()
    assert backend.asked[-1] == "user"


async def test_requests_of_users_precede_those_of_strangers() -> None:
    backend = QueuedBackend()
    for number in range(PLACES):
        backend.request(f"user {number}", network=number, known=True)
    await settle()
    backend.request("stranger", network=100)
    backend.request("user", network=101, known=True)
    await backend.answer("user 0")
    assert backend.asked[-1] == "user"
    await backend.answer("user 1", "user")
    assert backend.asked[-1] == "stranger"


async def test_hellos_from_addresses_of_users_precede_those_of_strangers() -> None:
    backend = QueuedBackend()
    for number in range(PLACES):
        backend.request(f"stranger {number}", network=number)
    backend.request("other stranger", network=101)
    await settle()
    backend.turns.user_authenticated("cloud", 102)
    backend.turns.user_authenticated("other", 103)
    for name, network in (("of another cloud", 103), ("user", 102)):
        backend.request(name, network=network)
    await backend.answer("stranger 0")
    assert backend.asked[-1] == "user"
    await backend.answer("stranger 1", "stranger 2", "stranger 3", "stranger 4")
    assert backend.asked[-3:] == ["stranger 7", "other stranger", "of another cloud"]


async def test_address_of_a_user_is_preferred_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_turns, "MAX_PREFERRED", 2)
    backend = QueuedBackend()
    for network in (1, 2, 3):
        backend.turns.user_authenticated("cloud", network)
    assert [backend.turns._is_preferred("cloud", network) for network in (1, 2, 3)] == [False, True, True]
    await asyncio.sleep(PREFERENCE_LIFETIME)
    assert not backend.turns._is_preferred("cloud", 3)


async def test_request_whose_turn_does_not_come_is_refused_and_takes_no_place(caplog: pytest.LogCaptureFixture) -> None:
    backend = QueuedBackend()
    for number in range(6):
        backend.request(f"r{number}")
    await asyncio.sleep(TIMEOUT + 0.1)
    assert backend.refused == ["r4", "r5"]
    assert len(caplog.records) == 1  # one line, not one for each failure
    backend.request("later")
    await backend.answer("r0")
    assert backend.asked[-1] == "later"


async def test_joins_of_users_wait_longer_than_requests_of_strangers() -> None:
    backend = QueuedBackend()
    for number in range(5):
        backend.request(f"r{number}", known=True)
    backend.request("stranger")
    await asyncio.sleep(TIMEOUT * USERS_TIMEOUT_FACTOR - 0.1)
    assert backend.refused == ["stranger"]
    await asyncio.sleep(0.2)
    assert backend.refused == ["stranger", "r4"]


async def test_request_that_is_no_longer_wanted_is_not_sent() -> None:
    backend = QueuedBackend()
    for number in range(4):
        backend.request(f"r{number}")
    backend.request("gone", wanted=False)
    backend.request("next")
    await backend.answer("r0")
    assert backend.refused == ["gone"]
    assert backend.asked[-1] == "next"


@pytest.mark.parametrize("begun", [True, False])
async def test_cancelled_request_gives_its_place_back(begun: bool) -> None:
    backend = QueuedBackend()
    for number in range(5):
        backend.request(f"r{number}")
    await settle()
    backend.tasks[0 if begun else 4].cancel()
    await settle()
    backend.request("next")
    await backend.answer("r1", "r2")
    assert backend.asked[-1] == "next"
    await backend.answer("r3", "next", *(["r4"] if begun else []), *(["r0"] if not begun else []))
    assert not backend.turns._queues


# reference 3.7-i
async def test_background_requests_leave_half_of_the_places_to_joins() -> None:
    backend = QueuedBackend()
    for number in range(1000):
        backend.request(f"leave {number}", BACKGROUND, known=True)
    await settle()
    assert backend.asked == [f"leave {number}" for number in range(PLACES // 2)]
    for number in range(PLACES // 2):
        backend.request(f"join {number}", network=number, known=True)
    await settle()
    assert backend.asked[-PLACES // 2 :] == [f"join {number}" for number in range(PLACES // 2)]
    await backend.answer("leave 0")
    assert backend.asked[-1] == "leave 4"
