"""The Debian package: installed, run, upgraded over a running call, removed and purged, in a booted Debian 12."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway import config
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.version import SERVER_VERSION, VERSION
from tests.interop.member import Member
from tests.media.loopback import loopback
from tests.netns import lone_host
from tests.setup.commands import run
from tests.setup.debian_machine import COMMAND_TIMEOUT, DebianMachine, debian_machine
from tests.setup.pins import ROOT

__all__ = ["loopback"]

GATEWAY = "http://127.0.0.1:8080"
NEW_VERSION = f"{VERSION}.1"
UNITS = ("portunus.service", "portunus.socket")
TEMPLATE = ROOT / "packaging" / "debian" / "portunus.toml"


def test_configuration_of_the_package_is_valid_and_holds_no_secret(tmp_path: Path) -> None:
    text = TEMPLATE.read_text()
    for name in ("sessions", "backend", "internal"):
        (tmp_path / name).write_text(f"{name}-6d1f0c7b2e9a4583b7c6d5e4f3a29180")
    shown = text.replace("/etc/portunus/secrets", str(tmp_path))
    (tmp_path / "portunus.toml").write_text(shown)
    loaded = config.load(tmp_path / "portunus.toml", {})
    assert loaded.sessions.secret.startswith("sessions-")
    assert loaded.http.listen == ("127.0.0.1:8080",)
    assert not re.search("[0-9a-f]{16}", text)


def new_version_of(package: Path, folder: Path) -> Path:
    """Build a package with a higher version, also of the gateway in it, and otherwise the same content."""
    run("dpkg-deb", "-R", package, folder, cwd=ROOT)
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"\nVersion: {VERSION}\n", f"\nVersion: {NEW_VERSION}\n"))
    (source,) = folder.glob("usr/lib/portunus/lib/python*/site-packages/gateway/version.py")
    source.write_text(source.read_text().replace(f'"{VERSION}"', f'"{NEW_VERSION}"'))
    run(sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", source, cwd=ROOT)
    upgrade = folder.with_suffix(".deb")
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", folder, upgrade, cwd=ROOT)
    shutil.rmtree(folder)
    return upgrade


async def install(machine: DebianMachine, package: Path) -> str:
    shutil.copy(package, machine.files / "var" / package.name)
    return await machine.run("dpkg", "--install", f"/var/{package.name}")


async def configure(machine: DebianMachine, nextcloud: FakeNextcloud) -> None:
    """Edit the configuration as its comments tell the operator, with the in-process SFU."""
    file = machine.files / "etc" / "portunus" / "portunus.toml"
    text = file.read_text().replace("https://cloud.example.com/", nextcloud.url)
    text = re.sub(r'type = "janus"\n\n\[\[mcu\.janus\]\]\nurl = .*\n', 'type = "inprocess"\n', text)
    file.write_text(f'{text}\n[mcu.inprocess]\naddress = "127.0.0.1"\n')
    check = await machine.run("portunus", "config", "check", "/etc/portunus/portunus.toml", "--user", "portunus")
    assert "error" not in check
    drop_in = machine.files / "etc" / "systemd" / "system" / "portunus.service.d" / "limit.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nTimeoutStopSec=5\n")  # the gateway has to ask for the time that a drain needs
    await machine.run("systemctl", "daemon-reload")
    await machine.run("systemctl", "restart", "portunus.service")


async def read_until(process: Process, part: str) -> None:
    """Wait for a line of the output of a process."""
    assert process.stdout is not None
    async with asyncio.timeout(COMMAND_TIMEOUT):
        while part not in (await process.stdout.readline()).decode():
            assert not process.stdout.at_eof()


async def welcome(http: aiohttp.ClientSession) -> str:
    async with http.get(f"{GATEWAY}/api/v1/welcome") as answer:
        document = await answer.json()
    return str(document["version"])


async def check_installation(machine: DebianMachine) -> str:
    """Check user, rights and units after the installation; return the secret for Talk's settings."""
    assert await machine.run("systemctl", "is-active", *UNITS) == "active\nactive"
    assert await machine.run("systemctl", "is-enabled", *UNITS) == "enabled\nenabled"
    assert await machine.run("stat", "-c", "%U %a", "/var/lib/portunus") == "portunus 700"
    names = ("secrets", "secrets/sessions", "secrets/backend", "secrets/internal", "portunus.toml")
    modes = await machine.run("stat", "-c", "%U:%G %a", *(f"/etc/portunus/{name}" for name in names))
    assert modes.splitlines() == ["root:portunus 750", *["root:portunus 640"] * 4]
    status = await machine.run("systemctl", "show", "--property=StatusText,User,NRestarts", "portunus.service")
    assert set(status.splitlines()) == {f"StatusText=listens on {GATEWAY}", "User=portunus", "NRestarts=0"}
    secrets = [(machine.files / "etc" / "portunus" / name).read_text() for name in names[1:4]]
    assert len(set(secrets)) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)
    return secrets[1]


async def upgrade_over_call(
    machine: DebianMachine, package: Path, nextcloud: FakeNextcloud, stack: AsyncExitStack
) -> None:
    """Upgrade while two members are in a call, whose media and messages go on until it ends."""
    http = await stack.enter_async_context(aiohttp.ClientSession())
    anna, ben = [
        await stack.enter_async_context(Member(GATEWAY, nextcloud, name, number))
        for number, name in enumerate(("anna", "ben"), 1)
    ]
    for member in (anna, ben):
        await member.set_in_call()
    await anna.publish()
    await ben.request_offer(anna)
    await ben.wait_for_picture(anna)
    log = await machine.start("journalctl", "--follow", "--lines=0", "--unit=portunus.service")
    installing = asyncio.create_task(install(machine, package))
    await read_until(log, "draining: no new sessions are accepted")
    late = await stack.enter_async_context(TalkClient(GATEWAY, nextcloud.url))
    with pytest.raises(RequestRefused, match="shutdown_scheduled"):
        await late.hello(nextcloud.ticket("late"))
    assert await welcome(http) == SERVER_VERSION
    await anna.publish("screen", audio=False, channels=())  # the old process serves the call in full
    await anna.offer_stream_to(ben)
    await ben.wait_for_picture(anna, "screen")
    await read_until(log, "draining: sessions in calls: 2;")  # the progress after 10 s: the unit's own limit is over
    assert not installing.done()
    for member in (anna, ben):
        await nextcloud.talk.set_in_call("4711", member.room_session, 0)
    async with asyncio.timeout(60):
        while NEW_VERSION not in await welcome(http):  # no connection is refused meanwhile
            pass
    await installing
    # sessions do not outlive the process: the client says hello again
    await anna.client.disconnect()
    await anna.client.connect()
    with pytest.raises(RequestRefused, match="no_such_session"):
        await anna.client.resume()


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_package_is_installed_run_upgraded_over_a_call_removed_and_purged(
    tmp_path: Path, debian_package: Path, loopback: None
) -> None:
    upgrade = new_version_of(debian_package, tmp_path / "new")
    async with AsyncExitStack() as stack:
        network = stack.enter_context(lone_host())
        machine = await stack.enter_async_context(debian_machine(tmp_path, network))
        await install(machine, debian_package)
        secret = await check_installation(machine)
        nextcloud = await stack.enter_async_context(FakeNextcloud(secret=secret))
        await configure(machine, nextcloud)
        async with AsyncExitStack() as call:
            await upgrade_over_call(machine, upgrade, nextcloud, call)
        assert await check_installation(machine) == secret
        assert nextcloud.url in (machine.files / "etc" / "portunus" / "portunus.toml").read_text()
        await check_removal(machine)


async def check_removal(machine: DebianMachine) -> None:
    await machine.run("dpkg", "--remove", "portunus")
    assert (await machine.attempt("systemctl", "is-active", *UNITS))[1] == "inactive\ninactive\n"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", 8080)
    assert (machine.files / "etc" / "portunus" / "secrets" / "backend").exists()
    assert not (machine.files / "usr" / "lib" / "portunus").exists()
    await machine.run("dpkg", "--purge", "portunus")
    shutil.rmtree(machine.files / "etc" / "systemd" / "system" / "portunus.service.d")
    for name in ("etc/portunus", "var/lib/portunus"):
        assert not (machine.files / name).exists()
    assert await machine.run("find", "/etc/systemd", "/var/lib/systemd", "-name", "portunus*") == ""
    assert await machine.run("systemctl", "is-system-running") == "running"
