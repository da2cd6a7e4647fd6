"""Branch coverage of the pure layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE_MODULES = (
    "gateway/core",
    "gateway/wire",
    "sdp",
    "mcu/janus/connection/messages.py",
    "mcu/janus/connection/transactions.py",
)
TESTS = (
    "tests/gateway/core",
    "tests/gateway/wire",
    "tests/sdp",
    "tests/mcu/janus/connection/test_messages.py",
    "tests/mcu/janus/connection/test_transactions.py",
)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_pure_layers_have_full_branch_coverage(tmp_path: Path) -> None:
    data = f"--data-file={tmp_path / 'coverage'}"
    include = "--include=" + ",".join(path if path.endswith(".py") else f"{path}/*" for path in PURE_MODULES)
    coverage = [sys.executable, "-m", "coverage"]
    pytest_ = ["-m", "pytest", "-q", "-m", "not full", "-p", "no:cacheprovider", *TESTS]
    ran = subprocess.run(
        [*coverage, "run", "--branch", data, include, *pytest_], cwd=ROOT, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stdout.decode()[-2000:]
    report = [*coverage, "report", data, "--show-missing", "--skip-covered", "--fail-under=100"]
    result = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
