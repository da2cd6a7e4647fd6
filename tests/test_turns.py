"""Tests in several processes: which of them run at the same time, and in which process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import turns
from tests.turns import ALONE, BROWSERS, turn

ROOT = Path(__file__).parents[1]
WAIT = 30.0  # seconds

CONFTEST = f"""
import time
from pathlib import Path
import pytest
from tests import turns
from tests.conftest import pytest_collection_modifyitems, pytest_runtest_protocol, pytest_xdist_make_scheduler

FOLDER = Path(__file__).parent
# Not the files of the tests around this one.
turns.TURN_LOCK, turns.MACHINE_LOCK = FOLDER / "pytest.ini", FOLDER / "conftest.py"

@pytest.fixture(autouse=True)
def note(worker_id, request):
    FOLDER.joinpath(request.path.stem + ".worker").write_text(worker_id)

@pytest.fixture
def meet(request):
    FOLDER.joinpath(request.path.stem).touch()
    def meet(other):
        until = time.monotonic() + {WAIT}
        while not FOLDER.joinpath(other).exists():
            assert time.monotonic() < until, "the other test does not run at the same time"
            time.sleep(0.01)
    return meet
"""
FILES = {
    "tests/test_left.py": "def test_left(meet): meet('test_browser_a')",
    "tests/browser/test_browser_a.py": "def test_a(meet): meet('test_left')",
    "tests/browser/test_browser_b.py": "def test_b(): pass",
    "tests/abuse/test_alone.py": "def test_alone(): pass",
    "tests/test_right.py": "def test_right(): pass",
}


def test_paths_with_a_place_of_their_own_exist() -> None:
    assert [path for path in (*ALONE, *BROWSERS) if not (ROOT / path).exists()] == []


def test_a_test_that_runs_alone_waits_for_earlier_ones_and_holds_up_later_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("TURN_LOCK", "MACHINE_LOCK"):
        (tmp_path / name).touch()
        monkeypatch.setattr(turns, name, tmp_path / name)
    events: list[str] = []

    def run(name: str, alone: bool) -> None:
        with turn(alone):
            events.append(f"{name} begins")
        events.append(f"{name} has ended")

    lone, later = threading.Thread(target=run, args=("lone", True)), threading.Thread(target=run, args=("later", False))
    with turn(alone=False):
        run("beside", alone=False)
        lone.start()
        wait_until_locked(turns.TURN_LOCK)
        later.start()
        events.append("earlier ends")
    for thread in (lone, later):
        thread.join(WAIT)
    assert events[:4] == ["beside begins", "beside has ended", "earlier ends", "lone begins"]
    assert sorted(events[4:]) == ["later begins", "later has ended", "lone has ended"]


def wait_until_locked(path: Path) -> None:
    """Wait until another open file holds the lock."""
    with path.open() as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(file, fcntl.LOCK_UN)


@pytest.mark.full
def test_two_processes_run_files_side_by_side_and_all_browsers_in_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--import-mode=importlib", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    process = {path.stem: path.read_text() for path in tmp_path.glob("*.worker")}
    assert process["test_browser_a"] == process["test_browser_b"] != process["test_left"]
