"""The images and compose files: users, read-only file systems and health checks. No container engine is needed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.tools.configuration.init import TEMPLATES, Site
from tests.setup.pins import ROOT

IMAGES = [ROOT / "Dockerfile", ROOT / "janus-config" / "Dockerfile"]
COMPOSITION = TEMPLATES / "compose.yaml"
REPOSITORY = ROOT / "compose.yaml"


def instruction(image: Path, name: str) -> list[str]:
    """Return the arguments of an instruction in its last occurrence, a JSON array."""
    found: list[str] = json.loads(re.findall(rf"^ *{name} (\[.*\])$", image.read_text(), re.M)[-1])
    return found


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.parent.name)
def test_image_runs_as_a_user_of_its_own(image: Path) -> None:
    (user,) = re.findall(r"^USER (\w+)$", image.read_text(), re.M)
    created = re.search(r"useradd(?: --uid (\d+))? --system --no-create-home (\w+)", image.read_text())
    assert created is not None
    assert user in created.groups()


def test_health_check_of_the_gateway_is_a_command_for_the_configuration_that_it_serves() -> None:
    program, command, *options = instruction(IMAGES[0], "    CMD")
    assert instruction(IMAGES[0], "ENTRYPOINT") == [program]
    assert instruction(IMAGES[0], "CMD") == ["serve", *options]
    assert command in main.commands


def test_health_check_of_janus_fails_if_nothing_listens_at_its_address() -> None:
    program, *options = instruction(IMAGES[1], "    CMD")
    assert program == "python3"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = {"JANUS_LISTEN": "127.0.0.1", "JANUS_WS_PORT": str(listening.getsockname()[1])}
        assert subprocess.run([sys.executable, *options], env=os.environ | address, timeout=30).returncode == 0
    done = subprocess.run([sys.executable, *options], env=os.environ | address, timeout=30, stderr=subprocess.DEVNULL)
    assert done.returncode == 1


def test_compose_file_of_the_repository_is_that_of_a_set() -> None:
    """It differs in the images, which it builds, and in the folder, which is that of the set."""
    replacements = {
        "    image: portunus\n": "    build: .\n",
        "    build: janus\n": "    build: janus-config\n",
        "./portunus.toml:": "./portunus-set/portunus.toml:",
        "env_file: janus.env": "env_file: portunus-set/janus.env",
        "./turnserver.conf:": "./portunus-set/turnserver.conf:",
        "@TURN_PORT@": str(Site("", "").turn_port),
    }
    expected = COMPOSITION.read_text().partition("\nservices:")[2]
    for of_set, of_repository in replacements.items():
        assert expected.count(of_set) == 1
        expected = expected.replace(of_set, of_repository)
    assert REPOSITORY.read_text().partition("\nservices:")[2] == expected


@pytest.mark.parametrize(
    ("service", "folder", "capabilities"),
    [("gateway", "/run/portunus", []), ("janus", "/run/media", []), ("coturn", "/var/tmp", ["NET_BIND_SERVICE"])],
)
def test_service_has_a_read_only_root_and_no_capability_but_that_of_its_program(
    service: str, folder: str, capabilities: list[str]
) -> None:
    """The file of ``turnserver`` has a capability; the kernel refuses to run it if that was dropped."""
    found = re.search(rf"^  {service}:\n((?:    .*\n|\n)+)", COMPOSITION.read_text(), re.M)
    assert found is not None
    text = found[1]
    assert "    read_only: true\n" in text
    assert "    cap_drop:\n      - ALL\n" in text
    added = re.search(r"cap_add:\n((?:      - .*\n)+)", text)
    assert re.findall(r"- (\w+)", added[1] if added else "") == capabilities
    assert "      - no-new-privileges:true\n" in text
    assert re.findall(r"tmpfs:\n      - (\S+)", text) == [f"{folder}:mode=1777"]
    assert all(volume.endswith(":ro") for volume in re.findall(r"^      - (\./\S+)", text, re.M))
