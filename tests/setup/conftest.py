"""The Debian package, built once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.setup.commands import run
from tests.setup.pins import ROOT


@pytest.fixture(scope="session")
def debian_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package with the script of ``make deb``."""
    return Path(run("scripts/deb", tmp_path_factory.mktemp("package"), cwd=ROOT).splitlines()[-1])
