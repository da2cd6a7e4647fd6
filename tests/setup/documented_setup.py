"""The commands of docs/install.md and docs/migration.md, run one after another in a booted Debian 12.

The machine has no network, but the packages that the commands install. Commands that the machine cannot run are run
elsewhere (``tests/documents/covered.py``).
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import aiohttp

from tests.documents.covered import MACHINE_SECTIONS, RUN_ELSEWHERE
from tests.documents.shell import NEXT_STEPS, section_commands, shown_commands
from tests.janus_process import libraries
from tests.setup.debian_machine import DebianMachine
from tests.setup.pins import ROOT

SOURCES, SET = "srv/sources", "srv/portunus-set"
GO_SERVER = "nextcloud-spreed-signaling"
STAND_IN = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
SECRET_OF_GO_SERVER = "0c7d9ae24835b6cf01d27e9a44886f1b"
SERVER_CONF = f"""\
[http]
listen = 127.0.0.1:8080
[sessions]
hashkey = {SECRET_OF_GO_SERVER}
[backend]
backends = cloud
[cloud]
url = https://cloud.example.com
secret = {SECRET_OF_GO_SERVER}
[mcu]
type = janus
url = ws://127.0.0.1:8188
"""
ADDRESS = "192.0.2.7"  # of the machine; coturn does not start if it has loopback addresses only
READY_TIMEOUT = 60.0  # seconds

(USER_COMMAND,) = [command for command in shown_commands(NEXT_STEPS) if command.startswith("useradd ")]
(FOLDER_COMMAND,) = [command for command in shown_commands(NEXT_STEPS) if command.startswith("install -d ")]
(UNITS_COMMAND,) = [command for command in shown_commands(NEXT_STEPS) if " portunus.socket portunus-janus" in command]


async def run_section(machine: DebianMachine, title: str) -> None:
    """Run the commands of a section in the folder of the sources, or in the one to which they change."""
    folder = f"/{SOURCES}"
    for command in section_commands(ROOT / "docs" / MACHINE_SECTIONS[title], title):
        if command in RUN_ELSEWHERE or command.startswith("portunus doctor "):  # the doctor needs a Nextcloud
            continue
        if command.startswith("cd "):
            folder = command.removeprefix("cd ")
        else:
            await machine.run("sh", "-c", f"cd {folder} && {command}")


async def install_in_ten_minutes(machine: DebianMachine, package: Path, gateway: str) -> None:
    """Install gateway, Janus and coturn as the document says, and wait until the gateway uses this Janus."""
    (machine.files / SOURCES / "dist").mkdir(parents=True)
    shutil.copy(package, machine.files / SOURCES / "dist" / package.name)
    with (machine.files / "etc" / "hosts").open("a") as hosts:
        hosts.write("127.0.0.1 cloud.example.com signal.example.com\n")
    shutil.copy(libraries() / "libjanus_datachannels.so", machine.files / "usr" / "local" / "lib")
    await run_section(machine, "In ten minutes")
    assert await machine.run("systemctl", "is-active", "portunus-janus", "coturn") == "active\nactive"
    async with aiohttp.ClientSession() as http, asyncio.timeout(READY_TIMEOUT):
        while True:
            async with http.get(f"{gateway}/readyz") as answer:
                document = await answer.json()
            if document["state"] == "ok":
                break
            await asyncio.sleep(0.1)
    states = {dependency["name"]: dependency["state"] for dependency in document["dependencies"]}
    assert states == {"sfu": "ok", "backend nextcloud": "ok"}


async def move_and_return(machine: DebianMachine) -> None:
    """Move from a stand-in of the Go server to Portunus, and back."""
    units = machine.files / "etc" / "systemd" / "system"
    (units / f"{GO_SERVER}.service").write_text(STAND_IN)
    configuration = machine.files / "etc" / GO_SERVER / "server.conf"
    configuration.parent.mkdir()
    configuration.write_text(SERVER_CONF)
    await machine.run("systemctl", "daemon-reload")
    await machine.run("systemctl", "enable", "--now", GO_SERVER)
    await run_section(machine, "Moving")
    assert await machine.run("systemctl", "is-active", "portunus") == "active"
    assert (await machine.attempt("systemctl", "is-active", GO_SERVER))[1] == "inactive\n"
    assert (await machine.attempt("systemctl", "is-enabled", GO_SERVER))[1] == "disabled\n"
    assert SECRET_OF_GO_SERVER in (machine.files / "etc" / "portunus" / "portunus.toml").read_text()
    await run_section(machine, "Back")
    assert (await machine.attempt("systemctl", "is-active", "portunus", "portunus.socket"))[1] == "inactive\ninactive\n"
    assert await machine.run("systemctl", "is-active", GO_SERVER) == "active"
    await machine.run("systemctl", "disable", "--now", GO_SERVER)
    (units / f"{GO_SERVER}.service").unlink()
    shutil.rmtree(configuration.parent)
    (machine.files / "etc" / "portunus" / "imported.toml").unlink()


async def set_up_without_package(machine: DebianMachine) -> None:
    """Remove the package, and run the commands of a set that it replaces: for user, folder and units."""
    await machine.run("dpkg", "--purge", "portunus")
    await machine.run("systemctl", "disable", "--now", "portunus-janus")
    await machine.run("userdel", "portunus")
    shutil.rmtree(machine.files / "etc" / "portunus", ignore_errors=True)
    for command in (USER_COMMAND, FOLDER_COMMAND, UNITS_COMMAND):
        await machine.run("sh", "-c", f"cd /{SET} && {command}")
    assert await machine.run("stat", "-c", "%a", "/etc/portunus") == "755"
    assert await machine.run("getent", "passwd", "portunus")
    await machine.run("systemctl", "daemon-reload")
    units = ("portunus.service", "portunus.socket", "portunus-janus.service")
    assert (
        await machine.run("systemctl", "show", "--property=LoadState", "--value", *units)
        == "loaded\n\nloaded\n\nloaded"
    )
