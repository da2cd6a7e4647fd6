"""``janus-config/``: the files, the placeholders in them, and the script that fills them in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.janus_process import ROOT, janus_config

FOLDER = ROOT / "janus-config"
FILES = sorted(FOLDER.glob("*.jcfg"))
COMPUTED_VALUES = {"DIRECTORY", "EVENTS", "ADMIN", "LOCK_RTP_FORWARD"}
fill = janus_config()


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Create a folder like that of Janus' modules."""
    folder = tmp_path / "modules"
    for name in (
        "plugins/libjanus_videoroom.so",
        "plugins/libjanus_echotest.so",
        "transports/libjanus_websockets.so",
        "transports/libjanus_http.so",
        "events/libjanus_wsevh.so",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def filled(tmp_path: Path, modules: Path, **values: str) -> Path:
    run = tmp_path / "run"
    fill.fill(run, {"MODULES": str(modules), **values})
    return run


def settings(run: Path) -> str:
    """Return the text of the filled files without comments."""
    text = "".join((run / "conf" / file.name).read_text() for file in FILES)
    return re.sub(r"^\s*#.*\n", "", text, flags=re.M)


def test_the_placeholders_in_the_files_are_those_of_the_table() -> None:
    names = {name for file in FILES for name in re.findall(r"@([A-Z0-9_]+)@", file.read_text())}
    folders = {"MODULES", "PLUGINS", "DATACHANNELS"}
    assert names == fill.DEFAULTS.keys() - folders | COMPUTED_VALUES


def test_each_placeholder_is_replaced(tmp_path: Path, modules: Path) -> None:
    assert "@" not in settings(filled(tmp_path, modules))


def test_a_line_without_a_value_is_left_out(tmp_path: Path, modules: Path) -> None:
    text = settings(filled(tmp_path, modules))
    assert "api_secret" not in text
    assert "nat_1_1_mapping" not in text
    assert "admin_ws = false" in text


def test_values_are_written_into_the_files(tmp_path: Path, modules: Path) -> None:
    values = {"API_SECRET": "s3cret", "ADMIN_SECRET": "adm1n", "ADMIN_KEY": "k3y", "RTP_PORTS": "30000-30100"}
    text = settings(filled(tmp_path, modules, **values))
    assert 'api_secret = "s3cret"' in text
    assert "admin_ws = true" in text
    assert "lock_rtp_forward = true" in text
    assert 'rtp_port_range = "30000-30100"' in text


def test_events_are_off_without_a_destination(tmp_path: Path, modules: Path) -> None:
    run = filled(tmp_path, modules)
    assert "broadcast = false" in settings(run)
    assert list((run / "events").iterdir()) == []
    run = filled(tmp_path, modules, EVENTS_URL="ws://127.0.0.1:9/")
    assert "broadcast = true" in settings(run)
    assert [link.name for link in (run / "events").iterdir()] == ["libjanus_wsevh.so"]


def test_only_the_wanted_modules_are_loaded(tmp_path: Path, modules: Path) -> None:
    run = filled(tmp_path, modules)
    assert [link.name for link in (run / "plugins").iterdir()] == ["libjanus_videoroom.so"]
    assert [link.name for link in (run / "transports").iterdir()] == ["libjanus_websockets.so"]


def test_the_data_channel_module_takes_the_place_of_videoroom(tmp_path: Path, modules: Path) -> None:
    library = tmp_path / "libjanus_datachannels.so"
    library.touch()
    run = filled(tmp_path, modules, DATACHANNELS=str(library))
    assert [link.name for link in (run / "plugins").iterdir()] == ["libjanus_datachannels.so"]
    assert [link.name for link in (run / "wrapped").iterdir()] == ["libjanus_videoroom.so"]


def test_only_the_owner_can_read_the_files(tmp_path: Path, modules: Path) -> None:
    run = filled(tmp_path, modules, API_SECRET="s3cret")
    assert (run / "conf" / "janus.jcfg").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "a\x00b"])
def test_a_value_with_quotes_or_control_characters_is_refused(tmp_path: Path, modules: Path, value: str) -> None:
    with pytest.raises(fill.FillError, match="API_SECRET"):
        filled(tmp_path, modules, API_SECRET=value)


def test_an_unknown_name_and_a_missing_module_are_named(tmp_path: Path, modules: Path) -> None:
    with pytest.raises(fill.FillError, match="APISECRET"):
        filled(tmp_path, modules, APISECRET="x")
    with pytest.raises(fill.FillError, match="libjanus_sip"):
        filled(tmp_path, modules, PLUGINS="libjanus_sip.so")
    with pytest.raises(fill.FillError, match="apt-get install janus"):
        filled(tmp_path, modules, MODULES=str(tmp_path / "nowhere"))


def run_script(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(FOLDER / "fill.py"), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_the_script_reads_values_from_arguments_and_environment(tmp_path: Path, modules: Path) -> None:
    run = tmp_path / "run"
    done = run_script(str(run), f"MODULES={modules}", "WS_PORT=9000", JANUS_WS_PORT="1", JANUS_API_SECRET="from-env")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ws_port = 9000" in settings(run)
    assert 'api_secret = "from-env"' in settings(run)


def test_the_script_reports_an_error_in_one_line(tmp_path: Path) -> None:
    assert run_script().returncode == 2
    done = run_script(str(tmp_path / "run"), "NOTHING=1")
    assert (done.returncode, done.stderr) == (1, "fill.py: there is no value NOTHING\n")
    assert "usage" in run_script(str(tmp_path), "WS_PORT").stderr


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "a..b"])
def test_an_address_that_no_interface_has_is_refused(tmp_path: Path, modules: Path, address: str) -> None:
    with pytest.raises(fill.FillError, match="no interface of this machine has the address LISTEN"):
        filled(tmp_path, modules, LISTEN=address)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_an_address_of_this_machine_is_accepted(tmp_path: Path, modules: Path, address: str) -> None:
    assert f'ws_ip = "{address}"' in settings(filled(tmp_path, modules, LISTEN=address))
