"""Fixtures of the tests of the admin socket."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an admin socket."""
    return tmp_path / "admin.sock"
