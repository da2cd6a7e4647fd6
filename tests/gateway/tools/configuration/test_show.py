"""``portunus config show`` and ``portunus config schema``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import json_schema

SECRET = "0123456789abcdef0123456789abcdef"
TEXT = f"""\
[sessions]
secret = "{SECRET}"
[[backend]]
id = "cloud"
urls = ["https://cloud.example.com/"]
secret_file = "secret"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("5f0c0d1e9a")
    file = tmp_path / "portunus.toml"
    file.write_text(TEXT)
    return file


def config(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["config", *map(str, arguments)], env=environ)


def test_lines_are_toml_with_the_origin_as_a_comment(path: Path) -> None:
    done = config("show", path, PORTUNUS_MCU__TIMEOUT="4")
    assert done.exit_code == 0
    lines = dict(line.split(" = ", 1) for line in done.output.splitlines())
    assert lines["sessions.secret"].split() == ['"***"', "#", f"{path}:2"]
    assert lines["backend[0].secret"].split() == ['"***"', "#", f"{path}:6,", "from", f"{path.parent}/secret"]
    assert lines["mcu.timeout"].split() == ["4.0", "#", "PORTUNUS_MCU__TIMEOUT"]
    assert lines["http.listen"].split() == ['["127.0.0.1:8080"]', "#", "default"]
    assert lines["backend[0].quality.floor"].split() == ["64000", "#", "from", "quality.floor"]
    for line in done.output.splitlines():
        assert tomllib.loads(line.replace("[0].", "."))
    assert SECRET not in done.output
    assert "5f0c0d1e9a" not in done.output


def test_json_has_the_same_settings_as_the_text(path: Path) -> None:
    done = config("show", path, "--json", PORTUNUS_MCU__TIMEOUT="4")
    settings = {setting["key"]: setting for setting in json.loads(done.output)}
    assert len(settings) == len(config("show", path).output.splitlines())
    assert settings["backend[0].urls"]["value"] == ["https://cloud.example.com/"]
    found = {key: settings[key]["source"] for key in ("backend[0].id", "mcu.timeout", "http.listen", "mcu.instance")}
    assert found == {
        "backend[0].id": "file",
        "mcu.timeout": "environment",
        "http.listen": "default",
        "mcu.instance": "derived",
    }
    assert SECRET not in done.output


def test_invalid_file_is_refused_with_status_1(path: Path) -> None:
    path.write_text(TEXT.replace("urls", "url"))
    done = config("show", path)
    assert done.exit_code == 1
    assert "backend[0].url is unknown; did you mean backend[0].urls?" in done.output


def test_missing_argument_has_status_2() -> None:
    assert config("show").exit_code == 2


def test_schema_is_printed() -> None:
    done = config("schema")
    assert done.exit_code == 0
    assert json.loads(done.output) == json_schema()
