"""Notifications to the service manager, received on its socket."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from gateway.edge.service_manager import ServiceManager
from tests.gateway.edge.notification_socket import notifications


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@portunus-test-{os.getpid()}"


def test_states_are_sent_with_their_texts(address: str) -> None:
    with notifications(address.replace("@", "\0")) as receiver:
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        manager.ready("listens on http://127.0.0.1:8080\nREADY=0")
        assert receiver.receive() == ["READY=1", "STATUS=listens on http://127.0.0.1:8080 READY=0"]
        before = time.monotonic_ns() // 1000
        manager.reloading()
        state, clock = receiver.receive()
        assert state == "RELOADING=1"
        assert before <= int(clock.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        manager.extend_time_limit(80.0)
        assert receiver.receive() == ["EXTEND_TIMEOUT_USEC=80000000"]
        manager.stopping()
        assert receiver.receive()[0] == "STOPPING=1"


async def test_keep_alive_is_sent_twice_in_a_watchdog_period_and_each_status_once(tmp_path: Path) -> None:
    address, texts = str(tmp_path / "notify"), ["one", "one", "two"]
    with notifications(address) as receiver:
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
        manager = ServiceManager(environ)
        assert manager.watchdog_period == 0.01
        watching = asyncio.create_task(manager.watch(lambda: texts.pop(0) if len(texts) > 1 else texts[0]))
        received = [await asyncio.to_thread(receiver.receive) for _ in range(6)]
        watching.cancel()
    alive = ["WATCHDOG=1"]
    assert received == [["STATUS=one"], alive, alive, ["STATUS=two"], alive, alive]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
    ],
)
def test_process_without_a_watchdog_of_its_own_sends_no_keep_alive(variables: dict[str, str]) -> None:
    assert ServiceManager({"NOTIFY_SOCKET": "/run/none"} | variables).watchdog_period is None


async def test_process_without_a_service_manager_sends_nothing() -> None:
    manager = ServiceManager({"WATCHDOG_USEC": "20000"})
    await manager.watch(lambda: pytest.fail("asked for a status"))
    manager.stopping()


def test_missing_notification_socket_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("listens")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No such file" in caplog.text
