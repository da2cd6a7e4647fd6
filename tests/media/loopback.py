"""A fixture that restricts aiortc peers to 127.0.0.1, which aioice otherwise excludes from its candidates."""

from __future__ import annotations

import aioice.ice
import pytest


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use 127.0.0.1 and no other address in every aiortc peer of the test."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", only_loopback)


def only_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """Replace ``aioice.ice.get_host_addresses``."""
    return ["127.0.0.1"]
