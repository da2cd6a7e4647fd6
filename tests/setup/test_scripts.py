"""The scripts that `make` calls choose the Python and say what is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.setup.commands import attempt, run
from tests.setup.pins import ROOT


def test_python_named_in_the_environment_is_used() -> None:
    assert run("scripts/python", cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}) == f"{sys.executable}\n"


@pytest.mark.parametrize("exists", [True, False])
def test_named_python_that_is_too_old_or_missing_is_refused(exists: bool, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    if exists:
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    refused = attempt("scripts/python", cwd=ROOT, env={**os.environ, "PYTHON": str(old)})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == f"PYTHON={old} is not a Python 3.11 or newer.\n"


def test_missing_debian_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """As a user who is not root and may not use sudo."""
    for name, script in {"dpkg-query": "exit 1", "apt-get": "exit 1", "sudo": "exit 1", "id": "echo 1000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    missing = attempt("scripts/packages", "janus", "chromium", cwd=ROOT, env=environment)
    assert missing.returncode == 1
    command = "sudo apt-get update && sudo apt-get install -y --no-install-recommends janus chromium"
    assert missing.stderr == f"This machine lacks janus chromium; install them with: {command}\n"
