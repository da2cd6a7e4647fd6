"""Real Janus on 127.0.0.1, configured from ``janus-config/``; its rooms and handles can be listed.

Rooms and handles are read through Janus' own APIs, without any code of the product (docs/janus.md, "In the tests").
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import aiohttp
import pytest

from tests.frozen_process import freeze
from tests.ports import lease_block

ROOT = Path(__file__).resolve().parent.parent
API_SECRET = "api-secret-of-the-tests"
ADMIN_SECRET = "admin-secret-of-the-tests"
ADMIN_KEY = "admin-key-of-the-tests"
START_TIMEOUT = 60.0  # seconds; measured 0.1 on an idle machine
STOP_TIMEOUT = 30.0  # seconds; measured 0.2
ANSWER_TIMEOUT = 30.0  # seconds for an answer of Janus; measured 0.01


@dataclass(frozen=True)
class JanusInstallation:
    """Installation of Janus on this machine."""

    version: str  # major and minor
    executable: Path
    modules: str  # folder of its modules; empty: that of the distribution
    command: str  # installs it

    def check_installed(self) -> None:
        """Check that this Janus is installed.

        Raises:
            pytest.UsageError: it is missing; the text names the command that installs it.
        """
        if not self.executable.exists():
            raise pytest.UsageError(f"the tests need a real Janus {self.version}: {self.command}")


SYSTEM_JANUS = JanusInstallation("1.1", Path("/usr/bin/janus"), "", "apt-get install janus")
CURRENT = JanusInstallation(
    "1.4", ROOT / "build/janus-1.4/janus", str(ROOT / "build/janus-1.4/modules"), "scripts/janus-1.4"
)
INSTALLATIONS = {installation.version: installation for installation in (SYSTEM_JANUS, CURRENT)}
VERSIONS = [SYSTEM_JANUS.version, pytest.param(CURRENT.version, marks=pytest.mark.full)]
_selected = [SYSTEM_JANUS]  # the last one is the installation of each new ``JanusProcess``


@contextlib.contextmanager
def select_janus(version: str) -> Iterator[JanusInstallation]:
    """Make this version the one that each new ``JanusProcess`` of the block runs."""
    _selected.append(INSTALLATIONS[version])
    yield _selected[-1]
    _selected.pop()


@pytest.fixture(params=VERSIONS)
def janus_version(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each version of Janus: that of the system, and in ``make test-full`` the current one."""
    with select_janus(request.param):
        yield request.param


class JanusProcess:
    """Process of Janus with its own directory and ports; an async context manager.

    ``values`` are those of ``janus-config/fill.py``. Ports stay the same over ``stop`` and ``start``.
    """

    def __init__(self, **values: str) -> None:
        self.installation = _selected[-1]
        self.edits: dict[str, str] = {}  # replaced in the settings of VideoRoom and of the core after ``fill``
        self._ports = lease_block()
        ws_port, admin_port, first_rtp = range(self._ports.first, self._ports.first + 3)
        self.values = {
            "WS_PORT": str(ws_port),
            "ADMIN_PORT": str(admin_port),
            "API_SECRET": API_SECRET,
            "ADMIN_SECRET": ADMIN_SECRET,
            "ADMIN_KEY": ADMIN_KEY,
            "EVENT_LOOPS": "1",
            "RTP_PORTS": f"{first_rtp}-{self._ports.last}",
            "ICE_INTERFACES": "127.0.0.1",
            "MODULES": self.installation.modules,
        } | values
        self.url = f"ws://127.0.0.1:{ws_port}"
        self.admin_url = f"ws://127.0.0.1:{admin_port}"
        self._directory = tempfile.TemporaryDirectory(prefix="portunus-janus-")
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> JanusProcess:
        await self.start()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()
        self._ports.close()
        self._directory.cleanup()

    @property
    def log(self) -> Path:
        """Return the file into which Janus writes its log."""
        return Path(self._directory.name) / "janus.log"

    @property
    def pid(self) -> int:
        """Return the process id of the running Janus."""
        assert self._process is not None, "Janus was not started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Return whether Janus runs: it is neither stopped nor crashed."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start Janus and return when it accepts connections.

        Raises:
            pytest.UsageError: this Janus is not installed.
            RuntimeError: it ended; the text has the end of its log.
        """
        self._launch()
        wanted = {int(self.values[name]) for name in ("WS_PORT", "ADMIN_PORT")}
        async with asyncio.timeout(START_TIMEOUT):
            while not wanted <= listening_ports(self.pid):  # another process at these ports would be taken for Janus
                if not self.runs:
                    raise RuntimeError(f"Janus ended at once:\n{self.log.read_text()[-3000:]}")
                await asyncio.sleep(0.02)

    def _launch(self) -> None:
        # In this thread, not in a worker thread: the shim ends Janus with the thread that started it.
        self.installation.check_installed()
        run = Path(self._directory.name)
        datachannels = str(libraries() / "libjanus_datachannels.so")
        janus_config().fill(run, {"DATACHANNELS": datachannels} | self.values)
        for name in ("janus.plugin.videoroom.jcfg", "janus.jcfg"):
            file = run / "conf" / name
            for old, new in self.edits.items():
                file.write_text(file.read_text().replace(old, new))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.installation.executable, "-F", run / "conf", "-C", run / "conf" / "janus.jcfg"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=run,
                env={**os.environ, "LD_PRELOAD": str(libraries() / "libjanus_loopback_shim.so")},
            )

    async def stop(self) -> None:
        """End Janus with SIGTERM, as an operator does. Idempotent."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End Janus with SIGKILL, as a crash does. Idempotent."""
        await self._end(signal.SIGKILL)

    async def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal_number)
        process.send_signal(signal.SIGCONT)  # a frozen process handles the signal only then
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def freeze(self) -> None:
        """Stop Janus with SIGSTOP: its connections stay open, and from the return on it answers nothing."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Resume a frozen Janus."""
        os.kill(self.pid, signal.SIGCONT)

    async def rooms(self) -> list[dict[str, Any]]:
        """Return the rooms of VideoRoom, the private ones included."""
        async with JanusApi(self.url, "janus-protocol", {"apisecret": self.values["API_SECRET"]}) as janus:
            session = (await janus.request(janus="create"))["data"]["id"]
            attach = await janus.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom")
            body = {"request": "list"} | ({"admin_key": self.values["ADMIN_KEY"]} if self.values["ADMIN_KEY"] else {})
            answer = await janus.request(janus="message", session_id=session, handle_id=attach["data"]["id"], body=body)
            await janus.request(janus="destroy", session_id=session)
        rooms: list[dict[str, Any]] = answer["plugindata"]["data"]["list"]
        return rooms

    async def handles(self) -> list[dict[str, Any]]:
        """Return the Admin API's ``handle_info`` of each handle."""
        found = []
        async with JanusApi(
            self.admin_url, "janus-admin-protocol", {"admin_secret": self.values["ADMIN_SECRET"]}
        ) as admin:
            for session in (await admin.request(janus="list_sessions"))["sessions"]:
                listed = await admin.request(janus="list_handles", session_id=session)
                for handle in listed.get("handles", []):
                    answer = await admin.request(janus="handle_info", session_id=session, handle_id=handle)
                    if answer["janus"] == "success":
                        found.append(answer["info"])
        return found

    async def admin(self, **request: Any) -> dict[str, Any]:
        """Send one request to the Admin API and return its answer."""
        secret = {"admin_secret": self.values["ADMIN_SECRET"]}
        async with JanusApi(self.admin_url, "janus-admin-protocol", secret) as admin:
            return await admin.request(**request)


class JanusApi:
    """WebSocket to one of Janus' APIs: one request at a time, without any code of the product."""

    def __init__(self, url: str, protocol: str, secrets: dict[str, str]) -> None:
        self._url, self._protocol = url, protocol
        self._secrets = {name: value for name, value in secrets.items() if value}
        self._transactions = itertools.count(1)

    async def __aenter__(self) -> JanusApi:
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(self._url, protocols=[self._protocol])
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._client.close()

    async def request(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer; acks and other messages are ignored."""
        transaction = str(next(self._transactions))
        await self._socket.send_json({**request, **self._secrets, "transaction": transaction})
        async with asyncio.timeout(ANSWER_TIMEOUT):
            while True:
                answer: dict[str, Any] = await self._socket.receive_json()
                if answer.get("transaction") == transaction and answer["janus"] != "ack":
                    return answer


def janus_config() -> ModuleType:
    """Load ``janus-config/fill.py``, whose folder is not a package."""
    spec = importlib.util.spec_from_file_location("janus_config_fill", ROOT / "janus-config" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def libraries() -> Path:
    """Compile the libraries that the tests load into Janus, once for this process, and return their folder."""
    folder = Path(tempfile.mkdtemp(prefix="portunus-libraries-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source in (ROOT / "tests" / "loopback_shim.c", ROOT / "janus-config" / "datachannels.c"):
        compile_library(source, folder)
    return folder


def compile_library(source: Path, folder: Path, *options: str) -> Path:
    """Compile a library that is loaded into Janus, and return its path."""
    library = folder / f"libjanus_{source.stem}.so"
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", *options, "-o", library, source, "-ldl"], check=True)
    except FileNotFoundError as error:
        raise pytest.UsageError("the tests compile two small libraries: apt-get install gcc libc6-dev") from error
    return library


def listening_ports(process: int) -> set[int]:
    """Return the TCP ports on which a process listens; empty if it has ended."""
    proc, listening = Path("/proc", str(process)), set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        own = {str(link.readlink()) for link in (proc / "fd").iterdir()}
        for line in (proc / "net" / "tcp").read_text().splitlines()[1:]:
            columns = line.split()  # of proc(5): the second is the address, the fourth the state, the tenth the inode
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in own:
                listening.add(int(columns[1].split(":")[1], 16))
    return listening


async def listens(port: int) -> bool:
    """Return whether a port of 127.0.0.1 accepts connections."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
