"""``portunus serve`` as a service manager runs it: with sockets that it passes and notifications that it expects."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.edge.notification_socket import notifications

SECRET = "6d1f0c7b2e9a4583b7c6d5e4f3a29180"
# A service manager sets the descriptors and the process id between fork and exec.
ACTIVATE = """\
import os, sys
for index, descriptor in enumerate(int(text) for text in sys.argv[1].split(",")):
    os.dup2(descriptor, 3 + index)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(index + 1), "LISTEN_FDNAMES": "http"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def activated(
    folder: Path, sockets: Sequence[socket.socket], config: str, **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """Start ``portunus serve`` with passed sockets; kill it at the end."""
    (folder / "portunus.toml").write_text(
        f'[sessions]\nsecret = "{SECRET}"\n[[backend]]\nid = "cloud"\nurls = ["https://cloud.invalid/"]\n'
        f'secret = "{SECRET}"\n{config}'
    )
    descriptors = [os.dup(sock.fileno()) for sock in sockets]
    portunus = str(Path(sys.executable).with_name("portunus"))
    command = [
        sys.executable,
        "-c",
        ACTIVATE,
        ",".join(map(str, descriptors)),
        portunus,
        "serve",
        "-c",
        "portunus.toml",
    ]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environ},
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            yield process
        finally:
            process.kill()


async def test_service_manager_is_notified_of_start_reload_and_end_of_a_gateway_on_its_sockets(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "http.sock"))
    unix.listen()
    with notifications(address) as manager, socket.create_server(("127.0.0.1", 0)) as tcp, unix:
        port = tcp.getsockname()[1]
        config = f'[http]\nlisten = ["localhost:{port}", "127.0.0.1:0", "{tmp_path}/http.sock"]\n'
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"}
        with activated(tmp_path, (tcp, unix), config, **environ) as process:
            assert process.stdout is not None
            urls = process.stdout.readline().strip().removeprefix("portunus listens on ").split(", ")
            assert urls[:2] == [f"http://127.0.0.1:{port}", f"unix:{tmp_path}/http.sock"]
            assert len(urls) == 3
            started = await manager.wait_for("READY=1")
            assert started[1] == f"STATUS=listens on {', '.join(urls)}"
            await manager.wait_for("WATCHDOG=1")
            async with aiohttp.ClientSession() as http, http.get(f"{urls[0]}/api/v1/welcome") as answer:
                assert answer.status == 200
            connector = aiohttp.UnixConnector(f"{tmp_path}/http.sock")
            async with aiohttp.ClientSession(connector=connector) as http, http.get("http://unix/healthz") as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGHUP)
            assert (await asyncio.to_thread(manager.receive))[0] == "RELOADING=1"
            await manager.wait_for("READY=1")
            process.send_signal(signal.SIGTERM)
            await manager.wait_for("EXTEND_TIMEOUT_USEC=80000000")
            await manager.wait_for("STOPPING=1")
            assert process.wait(20) == 0
        with socket.create_connection(("127.0.0.1", port)):
            pass  # the service manager's socket accepts connections for the next process
    assert (tmp_path / "http.sock").exists()


@pytest.mark.parametrize(
    ("socket_type", "config", "reason"),
    [
        (socket.SOCK_DGRAM, "", "Error: descriptor 3 (http) of the service manager does not listen"),
        (socket.SOCK_STREAM, '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\ntest_controls = true\n', "test_controls"),
    ],
)
def test_passed_socket_that_must_not_be_served_is_an_error(
    tmp_path: Path, socket_type: socket.SocketKind, config: str, reason: str
) -> None:
    with socket.socket(type=socket_type) as sock:
        sock.bind(("127.0.0.1", 0))
        if socket_type == socket.SOCK_STREAM:
            sock.listen()
        with activated(tmp_path, (sock,), config) as process:
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "")
    assert reason in errors
    assert len(errors.splitlines()) == 1


def test_process_with_a_thread_that_does_not_end_is_ended() -> None:
    stuck = (
        "import threading; from gateway import log; from gateway.tools import serve; log.configure()\n"
        "threading.Thread(target=threading.Event().wait, name='stuck').start(); serve._end_process_within(0.1, 3)"
    )
    done = subprocess.run([sys.executable, "-c", stuck], stderr=subprocess.PIPE, text=True, timeout=60.0)
    assert done.returncode == 3
    assert "the process did not end within 0.1 s, and is ended; its threads: MainThread, stuck" in done.stderr
