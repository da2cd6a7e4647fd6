"""All problems of a configuration are found, and none that only follows from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError
from tests.gateway.config.loading import MINIMAL, SECRET, read


def problems(path: Path, text: str) -> dict[str, str]:
    """Return the problems by key, in their order; each key has one."""
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    assert caught.value is caught.value.all[0]
    found = {error.key: error.problem for error in caught.value.all}
    assert len(found) == len(caught.value.all)
    return found


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("mcu = 5\n" + MINIMAL.replace(SECRET, "short"), ["mcu", "sessions.secret"]),
        (MINIMAL + "[mcu]\ntype = 'janus'\njanus = 5\n[turn]\nservers = ['x']", ["mcu.janus", "turn.api_key"]),
        (MINIMAL + "[[mcu.janus]]\nurl = 'http://x'\n[limits]\nid_length = -1", ["limits.id_length", "mcu.janus[0]"]),
        (MINIMAL + "[mcu.inprocess]\nport_min = 9\n[admin]\nsocket = 1", ["admin.socket", "mcu.inprocess"]),
        (MINIMAL + "[[backend]]\n[[backend]]\nid = ''", ["backend[1].id", "backend[1].urls", "backend[2].urls"]),
        (MINIMAL + "[http]\nlisten = [1, 2]\n[quality]\nfloor = 9\nscreen = 5", ["http.listen[0]", "http.listen[1]"]),
    ],
)
def test_problems_after_the_first_are_found_too(tmp_path: Path, text: str, keys: list[str]) -> None:
    found = list(problems(tmp_path / "portunus.toml", text))
    assert [key for key in found if key in keys] == keys, found


def test_value_of_a_wrong_type_causes_one_problem(tmp_path: Path) -> None:
    text = MINIMAL.replace(f'"{SECRET}"', "5").replace('["https://cloud.example.com/"]', "[5]")
    assert list(problems(tmp_path / "portunus.toml", text)) == ["sessions.secret", "backend[0].urls[0]"]


def test_problem_of_the_defaults_is_not_repeated_for_each_backend(tmp_path: Path) -> None:
    text = MINIMAL + "[quality]\nfloor = 90000\nscreen = 5"
    assert list(problems(tmp_path / "portunus.toml", text)) == ["quality.screen"]
