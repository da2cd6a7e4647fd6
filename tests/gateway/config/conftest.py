"""Fixtures of the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a configuration file."""
    return tmp_path / "portunus.toml"
