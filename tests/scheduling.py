"""Distribution of the tests among the processes of pytest-xdist."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.turns import unit_of


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist 3.8 has no types
    """Gives each process one unit of tests after the other, in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
