"""The files that ``portunus config init`` writes, with the real programs: Janus, coturn, nginx, systemd."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.tools.configuration.init import Site, write_set
from tests.gateway.certificates import make_certificate
from tests.janus_process import libraries
from tests.ports import PortBlock, lease_block
from tests.programs import find_program, nginx_command, wait_until_listening

pytestmark = pytest.mark.full

START_TIMEOUT = 60.0  # seconds until a program answers


@pytest.fixture
def ports() -> Iterator[PortBlock]:
    with lease_block() as block:
        yield block


@pytest.fixture
def folder(tmp_path: Path, ports: PortBlock) -> Path:
    """Write the set into ``set`` below the folder, with ports and a certificate of the test."""
    certificate, key = make_certificate(tmp_path)
    first = ports.first
    site = Site(
        "https://cloud.example.com",
        "signal.example.com",
        certificate=str(certificate),
        key=str(key),
        runtime=str(tmp_path),
        gateway_port=first,
        janus_port=first + 1,
        janus_admin_port=first + 2,
        turn_port=first + 3,
        https_port=first + 4,
        program=sys.executable,  # systemd looks whether it exists
        rtp_ports=f"{first + 10}-{ports.last}",
    )
    write_set(tmp_path / "set", site)
    return tmp_path


@asynccontextmanager
async def running_program(
    *command: str | Path, log: Path, environment: dict[str, str] | None = None
) -> AsyncIterator[None]:
    """Run a program until the context ends."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), START_TIMEOUT)


async def wait_for_body(client: aiohttp.ClientSession, url: str, wanted: str, log: Path) -> str:
    """Return the body of a URL as soon as its beginning matches ``wanted``."""
    body = ""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not re.match(wanted, body):
                await asyncio.sleep(0.05)
                try:
                    async with client.get(url) as response:
                        body = await response.text()
                except aiohttp.ClientError as error:
                    body = str(error)
    except TimeoutError:
        pytest.fail(f"{url} answered last: {body}\n{end_of(log)}")
    return body


def end_of(log: Path) -> str:
    return log.read_text()[-3000:]


def janus_commands(folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the two commands of Janus' unit and its environment, with the folders of the test."""
    unit = (folder / "set" / "portunus-janus.service").read_text()
    unit = unit.replace("/etc/portunus", str(folder / "set")).replace("/run/portunus-janus", str(folder / "janus"))
    (prepare,) = re.findall(r"^ExecStartPre=(.*)$", unit, re.M)
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
    (file,) = re.findall(r"^EnvironmentFile=(.*)$", unit, re.M)
    environment = dict(re.findall(r"^(\w+)=(.*)$", Path(file).read_text(), re.M))
    # NEXT-STEPS.md has the administrator compile the library
    environment |= {"JANUS_DATACHANNELS": str(libraries() / "libjanus_datachannels.so"), "JANUS_EVENT_LOOPS": "1"}
    return shlex.split(prepare), shlex.split(start), environment


async def test_gateway_uses_janus_and_is_reached_through_nginx(folder: Path, ports: PortBlock) -> None:
    prepare, start, environment = janus_commands(folder)
    await asyncio.to_thread(
        subprocess.run, prepare, check=True, env={**os.environ, **environment}, timeout=START_TIMEOUT
    )
    nginx = nginx_command(folder, f"include {folder}/set/nginx.conf;")
    serve = "from gateway.cli import main; main()"
    gateway = (sys.executable, "-c", serve, "serve", "-c", folder / "set" / "portunus.toml")
    trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    base = f"https://127.0.0.1:{ports.first + 4}/standalone-signaling"
    async with (
        running_program(*start, log=folder / "janus.log", environment=environment),
        running_program(*gateway, log=folder / "gateway.log"),
        running_program(*nginx, log=folder / "nginx.log"),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as client,
    ):
        ready = await wait_for_body(
            client, f"http://127.0.0.1:{ports.first}/readyz", r'\{\s*"state": "ok"', folder / "gateway.log"
        )
        states = {dependency["name"]: dependency["state"] for dependency in json.loads(ready)["dependencies"]}
        assert states == {"sfu": "ok", "backend nextcloud": "ok"}
        welcome = await wait_for_body(client, f"{base}/api/v1/welcome", r"\{", folder / "nginx.log")
        assert '"nextcloud-spreed-signaling":"Welcome"' in welcome
        async with client.ws_connect(f"{base.replace('https', 'wss')}/spreed") as socket:
            message = await socket.receive_json(timeout=START_TIMEOUT)
    assert message["type"] == "welcome"
    assert "mcu" in message["welcome"]["features"]


def test_nginx_accepts_its_file(folder: Path) -> None:
    command = [*nginx_command(folder, f"include {folder}/set/nginx.conf;"), "-t"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_systemd_accepts_the_units(folder: Path) -> None:
    units = [str(folder / "set" / name) for name in ("portunus.service", "portunus.socket", "portunus-janus.service")]
    command = [find_program("systemd-analyze", "systemd"), "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")


async def test_coturn_serves_clients_with_the_secret_and_relays_to_no_loopback_address(
    folder: Path, ports: PortBlock
) -> None:
    configuration = folder / "set" / "turnserver.conf"
    port = str(ports.first + 3)
    log = folder / "turn.log"
    local = ("--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--userdb", folder / "turndb")
    output = ("--log-file", "stdout", "--simple-log", "--pidfile", folder / "turn.pid")
    (secret,) = re.findall(r"^static-auth-secret=(.*)$", configuration.read_text(), re.M)
    async with running_program(find_program("turnserver", "coturn"), "-c", configuration, *local, *output, log=log):
        await wait_until_listening("127.0.0.1", ports.first + 3)
        # the client asks for an allocation, then for a channel to the address that the option -e names
        assert "channel bind: error 403 (Forbidden IP)" in await relay(port, secret)
        refused = await relay(port, secret[::-1])
        assert "Cannot complete Allocation" in refused
        assert "channel bind" not in refused
    assert re.findall(r"(?im)^.*(?:unknown|wrong|bad|illegal).*$", end_of(log)) == []


async def relay(port: str, secret: str) -> str:
    """Have coturn's own client ask for a relay to a loopback address; return its output."""
    command = (find_program("turnutils_uclient", "coturn"), "-W", secret, "-u", "user", "-p", port, "-e", "127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        *command, "-n", "1", "-m", "1", "-y", "127.0.0.1", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), START_TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()


async def test_configuration_of_debians_janus_package_works_as_it_is(tmp_path: Path, ports: PortBlock) -> None:
    """Only address and port are changed, and the other transports are left out, for their ports may be in use."""
    configuration = tmp_path / "janus"
    await asyncio.to_thread(shutil.copytree, "/etc/janus", configuration)
    core, websockets = configuration / "janus.jcfg", configuration / "janus.transport.websockets.jcfg"
    (folder,) = re.findall(r'^\s*transports_folder = "(.*?)"', core.read_text(), re.M)
    (tmp_path / "transports").mkdir()
    (tmp_path / "transports" / "libjanus_websockets.so").symlink_to(f"{folder}/libjanus_websockets.so")
    core.write_text(core.read_text().replace(f'"{folder}"', f'"{tmp_path}/transports"'))
    websockets.write_text(
        websockets.read_text().replace("ws_port = 8188", f'ws_port = {ports.first + 1}\nws_ip = "127.0.0.1"')
    )
    (tmp_path / "portunus.toml").write_text(f"""
[http]
listen = ["127.0.0.1:{ports.first}"]
[sessions]
secret = "6d1f0c7b2e9a4583b7c6d5e4f3a29180"
[[backend]]
id = "cloud"
urls = ["https://cloud.example.com/"]
secret = "5f0c0d1e9a"
[mcu]
type = "janus"
[[mcu.janus]]
url = "ws://127.0.0.1:{ports.first + 1}"
""")
    serve = "from gateway.cli import main; main()"
    gateway = (sys.executable, "-c", serve, "serve", "-c", tmp_path / "portunus.toml")
    log = tmp_path / "gateway.log"
    async with (
        running_program("/usr/bin/janus", "-F", configuration, "-C", core, log=tmp_path / "janus.log"),
        running_program(*gateway, log=log),
        aiohttp.ClientSession() as client,
    ):
        ready = await wait_for_body(client, f"http://127.0.0.1:{ports.first}/readyz", r'\{\s*"state": "ok"', log)
    states = {dependency["name"]: dependency["state"] for dependency in json.loads(ready)["dependencies"]}
    assert states == {"sfu": "ok", "backend cloud": "ok"}
    assert "calls end with it" in end_of(log)  # reclaim_session_timeout, which docs/janus.md says is missing
