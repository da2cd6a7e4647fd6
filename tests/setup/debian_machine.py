"""A Debian 12 that systemd-nspawn boots in a network namespace of its own, with loopback only.

Needs root, systemd-nspawn, and the archive that ``scripts/debian-12`` writes.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.setup.pins import ROOT

ARCHIVE = ROOT / "build" / "debian-12.tar"
BOOT_TIMEOUT = 60.0  # seconds
DIAGNOSES = (  # shown with a failure
    ("journalctl", "--unit=portunus*", "--lines=60"),
    ("systemctl", "status", "--no-pager", "portunus.service", "portunus.socket"),
    ("sh", "-c", "for p in /proc/[0-9]*; do echo $p $(tr '\\0' ' ' <$p/cmdline) $(cat $p/wchan); done"),
)
END_TIMEOUT = 20.0  # seconds
COMMAND_TIMEOUT = 100.0  # seconds; an upgrade waits for the drain


class DebianMachine:
    """Running machine; its files are below ``files``."""

    def __init__(self, files: Path, leader: int) -> None:
        self.files = files
        self._leader = leader

    async def start(self, *command: str) -> Process:
        """Start a command as root of the machine."""
        entered = (
            "nsenter",
            f"--target={self._leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        )
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        return await asyncio.create_subprocess_exec(
            *entered, "--", *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment
        )

    async def attempt(self, *command: str) -> tuple[int, str]:
        """Run a command to its end; return its status and output."""
        process = await self.start(*command)
        async with asyncio.timeout(COMMAND_TIMEOUT):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def run(self, *command: str) -> str:
        """Run a command that must succeed, and return its output."""
        status, output = await self.attempt(*command)
        assert status == 0, f"{command}: {output}"
        return output.strip()


@asynccontextmanager
async def debian_machine(folder: Path, network: Path) -> AsyncIterator[DebianMachine]:
    """Unpack Debian into a folder, boot it in a network namespace, and end it with the block."""
    if shutil.which("systemd-nspawn") is None:
        raise RuntimeError("systemd-nspawn is missing: apt-get install systemd-container")
    if not ARCHIVE.is_file():
        raise RuntimeError(f"{ARCHIVE.name} is missing: run scripts/debian-12")
    files, notifications = folder / "debian", folder / "notify"
    files.mkdir()
    await asyncio.to_thread(subprocess.run, ("tar", "-x", "-f", ARCHIVE, "-C", files), check=True)
    nspawn = ("systemd-nspawn", "--quiet", "--boot", f"--directory={files}", f"--network-namespace-path={network}")
    options = (
        "--notify-ready=yes",
        "--register=no",
        "--keep-unit",
        "--console=read-only",
        f"--machine=portunus-{network.name}",
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, (folder / "boot.log").open("wb") as log:
        receiver.bind(str(notifications))
        receiver.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *nspawn, *options, stdin=DEVNULL, stdout=log, stderr=log, env={"NOTIFY_SOCKET": str(notifications)}
        )
        try:
            machine = DebianMachine(files, await _wait_until_booted(receiver))
            try:
                yield machine
            except BaseException as error:
                for command in DIAGNOSES:
                    error.add_note((await machine.attempt(*command))[1])
                raise
        finally:
            await _end(process)
            shutil.rmtree(files, ignore_errors=True)  # 200 MB that pytest would keep


async def _end(process: Process) -> None:
    """Halt the machine; systemd-nspawn ends with it."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), END_TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _wait_until_booted(receiver: socket.socket) -> int:
    """Wait until the machine has booted, and return the process id of its first process."""
    leader = 0
    async with asyncio.timeout(BOOT_TIMEOUT):
        while True:
            lines = (await asyncio.get_running_loop().sock_recv(receiver, 4096)).decode().split("\n")
            leader = next(
                (int(line.partition("=")[2]) for line in lines if line.startswith("X_NSPAWN_LEADER_PID=")), leader
            )
            if "READY=1" in lines:
                return leader
