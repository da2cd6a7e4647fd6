"""Portunus as a wheel, installed in a new virtual environment outside the tree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.version import SERVER_VERSION, VERSION
from tests.setup.commands import PINNED_OPTIONS, copy_tree, run

ROOT = Path(__file__).parent.parent
STARTUP_TIMEOUT = 30.0  # seconds from the start of the process until it has printed its address

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

CONFIG = """\
[http]
listen = ["127.0.0.1:0"]
[sessions]
secret = "c41f2be6b0d94a6c8f3f7a52e1d06b98"
[[backend]]
id = "cloud"
urls = ["https://cloud.example.com/"]
secret = "5d0e7c1f9ab34e7286c4d1f0a9b8e723"
[mcu]
type = "inprocess"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tree, without the files that earlier builds left."""
    copy = copy_tree(tmp_path_factory.mktemp("source"))
    (copy / "janus-config" / "__pycache__").mkdir(exist_ok=True)  # Python creates it when a program imports fill.py
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", copy / "dist", ".", cwd=copy)
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed_commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and the pinned packages in an environment; return its ``bin`` folder."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", *PINNED_OPTIONS, "-r", ROOT / "constraints.txt", cwd=home)
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=home)
    return python.parent


@contextlib.contextmanager
def served_address(cwd: Path, program: Path, *arguments: str) -> Iterator[str]:
    """Start ``portunus``, yield the address that it listens on, end it with SIGTERM and require status 0."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [program, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield f"http://{read_address(process)}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_address(process: subprocess.Popen[str]) -> str:
    """Wait for the loopback address that the process prints, and return it."""
    output = ""
    assert process.stdout is not None
    deadline = time.monotonic() + STARTUP_TIMEOUT
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        line = os.read(process.stdout.fileno(), 65536).decode()
        if not line:
            break
        output += line
        if found := re.search(r"127\.0\.0\.1:[1-9]\d*\b(?=\D)", output):
            return found[0]
    pytest.fail(f"no address in: {output!r}")


def get(url: str) -> tuple[int, bytes]:
    """Send a GET request and return the status and body of the response."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_wheel_holds_the_three_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata, data = f"portunus-{VERSION}.dist-info", f"portunus-{VERSION}.data"
    assert {name.split("/")[0] for name in names} == {"gateway", "mcu", "sdp", metadata, data}
    assert {"gateway/py.typed", "mcu/py.typed", "sdp/py.typed", "gateway/web/index.html"} <= names
    web = {str(path.relative_to(ROOT)) for path in (ROOT / "gateway" / "web").rglob("*") if path.is_file()}
    assert web <= names
    templates = ROOT / "gateway" / "tools" / "configuration" / "templates"
    assert {str(path.relative_to(ROOT)) for path in templates.iterdir()} <= names
    janus = {path.name for path in (ROOT / "janus-config").iterdir() if path.is_file()}
    assert {name for name in names if name.startswith(data)} == {
        f"{data}/data/share/portunus/janus-config/{name}" for name in janus
    }


def test_pinned_packages_satisfy_the_requirements_of_the_wheel(installed_commands: Path) -> None:
    assert "No broken requirements" in run(installed_commands / "python", "-m", "pip", "check", cwd=installed_commands)


def test_installed_command_prints_its_version(installed_commands: Path) -> None:
    assert VERSION in run(installed_commands / "portunus", "--version", cwd=installed_commands)


def test_installed_demo_serves_the_call_page(installed_commands: Path, tmp_path: Path) -> None:
    with served_address(tmp_path, installed_commands / "portunus", "demo", "--port", "0") as address:
        status, page = get(f"{address}/")
        assert status == 200
        assert b"<!doctype html>" in page[:200].lower()
        scripts = re.findall(rb'<script[^>]*src="([^"]+)"', page)
        assert scripts
        assert all(get(f"{address}/{script.decode().lstrip('./')}")[0] == 200 for script in scripts)


def test_installed_gateway_serves_without_the_demo(installed_commands: Path, tmp_path: Path) -> None:
    (tmp_path / "portunus.toml").write_text(CONFIG)
    with served_address(tmp_path, installed_commands / "portunus", "serve", "-c", "portunus.toml") as address:
        assert get(f"{address}/")[0] == 404
        status, body = get(f"{address}/api/v1/welcome")
        assert status == 200
        assert json.loads(body) == {"nextcloud-spreed-signaling": "Welcome", "version": SERVER_VERSION}


def test_installed_command_writes_a_set_of_configurations_with_the_files_for_janus(
    installed_commands: Path, tmp_path: Path
) -> None:
    options = ("--nextcloud", "https://cloud.example.com", "--domain", "signal.example.com", "--out", "set")
    run(installed_commands / "portunus", "config", "init", *options, cwd=tmp_path)
    for source in (ROOT / "janus-config").iterdir():
        if source.is_file():
            assert (tmp_path / "set" / "janus" / source.name).read_bytes() == source.read_bytes()
    assert f"ExecStart={installed_commands}/portunus serve" in (tmp_path / "set" / "portunus.service").read_text()
    run(installed_commands / "portunus", "config", "check", "--no-world", "set/portunus.toml", cwd=tmp_path)


def test_installed_gateway_names_an_unknown_configuration_key_and_the_nearest_valid_one(
    installed_commands: Path, tmp_path: Path
) -> None:
    (tmp_path / "portunus.toml").write_text(CONFIG.replace("listen", "lisetn"))
    command = [str(installed_commands / "portunus"), "serve", "-c", "portunus.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "portunus.toml" in done.stderr
    assert "lisetn" in done.stderr
    assert "listen" in done.stderr.replace("lisetn", "")
    assert "Traceback" not in done.stderr
