"""The exit status of each kind of failed command is the same in all commands that can fail in this way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.root_logger import restored_root_logger

URL = "http://127.0.0.1:1/"  # of no server: the commands end before they would connect
CONFIGURATION = """
[sessions]
secret = "0123456789abcdef0123456789abcdef"
[nextcloud]
allow_any = true
secret = "5f0c"
[http]
listen = ["127.0.0.1:1"]
[admin]
socket = "FOLDER/no.sock"
"""

INIT = "config init --out FOLDER/set --domain signal.example.com --nextcloud https://cloud.example.com"
KINDS: dict[str, tuple[int, str, list[str]]] = {  # kind of failure -> status, part of the message, commands
    "invalid value": (
        2,
        "",
        [
            f"{INIT} --nextcloud x",
            f"{INIT} --domain y",
            f"{INIT} --public-address y",
            f"{INIT} --key y",
            "doctor x",
            f"doctor {URL} --nextcloud x",
            f"doctor {URL} --turn x --turn-secret CONFIG",
            "serve -c CONFIG --log-level loud",
            "serve -c CONFIG --log-format xml",
            "demo --port 65536",
            "top -c CONFIG --interval 0",
            "drain -c CONFIG --deadline soon",
        ],
    ),
    "missing or unknown option": (
        2,
        "",
        [
            "serve",
            "doctor",
            "config check",
            "config show",
            "config import",
            "config init",
            "health",
            "room-id r",
            "top",
            "explain r",
            "timeline r",
            "drain",
            "demo --tls",
        ],
    ),
    "unknown name": (
        2,
        "there is no ",
        [
            f"doctor {URL} --user nobody-there",
            "config check CONFIG --user nobody-there",
            "room-id r -c CONFIG --backend zzz",
        ],
    ),
    "unreadable file": (
        1,
        "NONE: cannot be read (No such file or directory)",
        [
            "serve -c NONE",
            "health -c NONE",
            "room-id r -c NONE",
            "config check NONE",
            "config show NONE",
            "config import NONE",
            "top -c NONE",
            "explain r -c NONE",
            "timeline r -c NONE",
            "drain -c NONE",
            "doctor -c NONE",
            f"doctor {URL} --ticket NONE",
            f"doctor {URL} --turn turn:a --turn-secret NONE",
        ],
    ),
    "invalid file": (
        1,
        "INVALID: ",
        [
            "serve -c INVALID",
            "health -c INVALID",
            "room-id r -c INVALID",
            "config check INVALID",
            "config show INVALID",
            "config import INVALID",
            "top -c INVALID",
            "explain r -c INVALID",
            "timeline r -c INVALID",
            "drain -c INVALID",
            "doctor -c INVALID",
            f"doctor {URL} --ticket INVALID",
            f"doctor {URL} --turn turn:a --turn-secret INVALID",
        ],
    ),
    "unwritable path": (
        1,
        ": cannot be written (",
        ["config import IMPORTED --out CONFIG", INIT.replace("FOLDER/set", "CONFIG/set")],
    ),
    "no gateway": (
        3,
        "Error: ",
        ["top -c CONFIG", "explain r -c CONFIG", "timeline r -c CONFIG", "drain -c CONFIG", "health -c CONFIG"],
    ),
}


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    with restored_root_logger():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "portunus.toml").write_text(CONFIGURATION.replace("FOLDER", str(folder)))
    (folder / "invalid").write_bytes(b"\xff\xfe")
    (folder / "server.conf").write_text("[http]\nlisten = 127.0.0.1:8080\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "command"), [(kind, command) for kind, (_, _, commands) in KINDS.items() for command in commands]
)
def test_kind_of_failure_has_the_same_status_in_all_commands(kind: str, command: str, folder: Path) -> None:
    paths = {
        "FOLDER": str(folder),
        "CONFIG": str(folder / "portunus.toml"),
        "NONE": str(folder / "none"),
        "INVALID": str(folder / "invalid"),
        "IMPORTED": str(folder / "server.conf"),
    }
    status, part, _ = KINDS[kind]
    for name, path in paths.items():
        command, part = command.replace(name, path), part.replace(name, path)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == status, result.output
    assert part in result.output
    assert "Errno" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_each_command_that_can_fail_is_in_the_table() -> None:
    named = {command.split()[0] for _, _, commands in KINDS.values() for command in commands}
    assert named == set(main.commands)
