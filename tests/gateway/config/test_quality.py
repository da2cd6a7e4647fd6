"""Loading of the sections ``[quality]``, ``[backend.quality]`` and ``[admin]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.limits import BackendQualityRules, QualityRules
from tests.gateway.config.loading import MINIMAL, read, refusal

QUALITY = "[quality]\nroom_budget = 1200000\nceiling = 400000\nvideocodecs = ['vp8', '*']\n"


def test_backend_overrides_single_quality_settings(path: Path) -> None:
    config = read(path, MINIMAL + "[backend.quality]\nceiling = 0\nvideocodecs = []\n" + QUALITY)
    (backend,) = config.backends
    assert backend.quality.with_defaults(config.quality) == QualityRules(room_budget=1_200_000)
    assert config.quality.videocodecs == ("vp8", "*")


def test_environment_overrides_the_quality_of_a_backend(path: Path) -> None:
    variables = {
        "PORTUNUS_BACKEND__0__QUALITY__ROOM_BUDGET": "900000",
        "PORTUNUS_BACKEND__0__QUALITY__AUDIOCODECS": "opus,pcmu",
    }
    (backend,) = read(path, MINIMAL + QUALITY, **variables).backends
    assert backend.quality == BackendQualityRules(room_budget=900_000, audiocodecs=("opus", "pcmu"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[quality]\nroom_budget = -1", "FILE: quality.room_budget: expected an integer >= 0"),
        ("[quality]\nfloor = 0", "FILE: quality.floor: expected an integer >= 16000"),
        ("[quality]\nceiling = 50000", "FILE: quality.ceiling: is less than the floor, 64000"),
        ("[quality]\nroom_budget = 63999", "FILE: quality.room_budget: is less than the floor, 64000"),
        ("[backend.quality]\nscreen = 20000", "FILE: backend[0].quality.screen: is less than the floor, 64000"),
        (
            "[backend.quality]\naudiocodecs = ['opus', 'vp8']",
            'FILE: backend[0].quality.audiocodecs[1]: "vp8" is none of g722, opus, pcma, pcmu, *',
        ),
        ("[backend.quality]\nbudget = 1", "FILE: backend[0].quality.budget is unknown; did you mean "),
        ("[admin]\nsecrets = 'x'", "FILE: admin.secrets is unknown; did you mean "),
    ],
)
def test_invalid_quality_or_admin_setting_is_named(path: Path, text: str, expected: str) -> None:
    assert refusal(path, f"{MINIMAL}{text}\n").startswith(expected)
