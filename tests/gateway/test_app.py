"""A whole gateway over real sockets: addresses, routes, start, reload and stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gateway import features
from gateway.app import Gateway
from gateway.config import AdminSection, Config, HttpSection, McuSection, SessionsSection
from gateway.config.sections import NextcloudSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from gateway.version import SERVER_HEADER, SERVER_VERSION
from mcu.inprocess.settings import InprocessSettings
from mcu.janus.settings import JanusServerSettings
from tests.gateway.certificates import make_certificate
from tests.gateway.served import PORTUNUS, configuration_for
from tests.ports import free_ports

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
_REST = f'[sessions]\nsecret = "{SECRET}"\n[[backend]]\nid = "c"\nurls = ["https://c.invalid/"]\nsecret = "6ae1"\n'
ONE_TWICE = _REST + '[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "ws://a"\n[[mcu.janus]]\nurl = "ws://a"\n'
FEATURES = ", ".join(features.announced("none"))


def config(*listen: str, certificate: str = "", key: str = "") -> Config:
    backend = FakeNextcloud(secret=SECRET)
    return Config(
        sessions=SessionsSection(secret=SECRET),
        http=HttpSection(listen=listen or ("127.0.0.1:0",), certificate=certificate, key=key),
        backends=(backend.backend(),),
    )


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    running = Gateway(config())
    (url,) = await running.start()
    yield url
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("prefix", ["", "/standalone-signaling"])
async def test_both_prefixes_are_served(gateway: str, http: aiohttp.ClientSession, prefix: str) -> None:
    async with http.get(f"{gateway}{prefix}/api/v1/welcome") as response:
        assert await response.json() == {"nextcloud-spreed-signaling": "Welcome", "version": SERVER_VERSION}
    async with http.ws_connect(f"{gateway}{prefix}/spreed") as client:
        assert (await client.receive_json())["type"] == "welcome"


@pytest.mark.parametrize("path", ["/api/v1/welcome", "/nowhere", "/spreed", "/api/v1/room/r"])
async def test_every_response_has_server_and_feature_headers(
    gateway: str, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(gateway + path) as response:
        assert response.headers["Server"] == SERVER_HEADER
        assert response.headers["X-Spreed-Signaling-Features"] == FEATURES


# reference 13.1-a
async def test_welcome_message_and_header_announce_the_same_features(gateway: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(gateway + "/spreed") as client:
        welcome = (await client.receive_json())["welcome"]
    expected = sorted((*FEATURES.split(", "), "virtual-sessions"))
    assert welcome == {"version": SERVER_VERSION, "features": expected}


@pytest.mark.parametrize("path", ["/", "/index.html", "/main.js", "/demo/api/join", "/test/streams"])
async def test_serve_has_no_routes_of_the_demo(gateway: str, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(gateway + path) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/spreed"), ("GET", "/api/v1/room/r"), ("POST", "/api/v1/welcome")]
)
async def test_wrong_method_of_a_known_path_is_405(
    gateway: str, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with http.request(method, gateway + path) as response:
        assert response.status == 405


async def test_readiness_of_a_gateway_without_an_sfu_is_degraded_with_status_200(
    gateway: str, http: aiohttp.ClientSession
) -> None:
    async with http.get(gateway + "/healthz") as response:
        assert (response.status, await response.text()) == (200, "ok\n")
    async with http.get(gateway + "/readyz") as response:
        assert response.status == 200
        document = await response.json()
    assert document["state"] == "degraded"
    sfu, backend = document["dependencies"]
    assert "no SFU is configured" in sfu["reason"]
    assert backend["state"] == "ok"


async def test_gateway_is_not_ready_if_its_sfu_cannot_bind_its_address(
    http: aiohttp.ClientSession,
) -> None:
    sfu = McuSection(type="inprocess", settings=InprocessSettings(address="192.0.2.1"))
    running = Gateway(msgspec.structs.replace(config(), mcu=sfu))
    (url,) = await running.start()
    async with http.get(url + "/readyz") as response:
        assert response.status == 503
        assert (await response.json())["dependencies"][0] == {
            "name": "sfu",
            "state": "away",
            "reason": "mcu.inprocess.address is not an address of this machine",
        }
    await running.stop()


async def test_stats_and_metrics_are_served(gateway: str, http: aiohttp.ClientSession) -> None:
    async with http.get(gateway + "/api/v1/stats") as response:
        assert await response.json() == {"rooms": 0, "sessions": 0}
    async with http.get(gateway + "/metrics") as response:
        assert "signaling_hub_sessions_resume_failed_total 0.0" in await response.text()


async def test_stale_unix_socket_is_replaced_and_served(tmp_path: Path) -> None:
    path = tmp_path / "portunus.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    running = Gateway(config(str(path)))
    assert await running.start() == [f"unix:{path}"]
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
            http.get("http://gateway/api/v1/welcome") as response,
        ):
            assert response.status == 200
    finally:
        await running.stop()


# reference 1.1-c
async def test_socket_in_use_and_other_file_are_not_replaced(tmp_path: Path) -> None:
    path, file = tmp_path / "portunus.sock", tmp_path / "notes.txt"
    file.write_text("keep me")
    with pytest.raises(OSError, match="not a socket"):
        await Gateway(config(str(file))).start()
    assert file.read_text() == "keep me"
    running = Gateway(config(str(path)))
    await running.start()
    try:
        with pytest.raises(OSError, match="in use"):
            await Gateway(config(str(path))).start()
        assert path.is_socket()
    finally:
        await running.stop()


async def test_tls_is_served_for_http_and_websocket(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    running = Gateway(config(certificate=str(certificate), key=str(key)))
    (url,) = await running.start()
    assert url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(certificate))
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(url + "/spreed", ssl=trust) as client:
            assert (await client.receive_json())["type"] == "welcome"
            await client.send_str("x" * 60_000)
            assert (await client.receive_json())["error"]["code"] == "invalid_format"
    finally:
        await running.stop()


# reference 1.1-e
@pytest.mark.parametrize(
    ("version", "ciphers", "served"),
    [
        (ssl.TLSVersion.TLSv1_3, "", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+CHACHA20", True),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA256", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AES:!AESGCM:!AESCCM", False),
        (ssl.TLSVersion.TLSv1_2, "DHE", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0", False),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_has_forward_secrecy(tmp_path: Path, version: ssl.TLSVersion, ciphers: str, served: bool) -> None:
    certificate, key = make_certificate(tmp_path)
    running = Gateway(config(certificate=str(certificate), key=str(key)))
    (url,) = await running.start()
    trust = ssl.create_default_context(cafile=str(certificate))
    trust.minimum_version = trust.maximum_version = version
    if ciphers:
        trust.set_ciphers(ciphers)
    try:
        async with aiohttp.ClientSession() as http:
            if served:
                assert (await http.get(f"{url}/healthz", ssl=trust)).status == 200
            else:
                with pytest.raises(aiohttp.ClientConnectorError):
                    await http.get(f"{url}/healthz", ssl=trust)
    finally:
        await running.stop()


@pytest.mark.parametrize("allowed", [True, False])
async def test_backend_for_any_url_is_announced_in_the_log(caplog: pytest.LogCaptureFixture, allowed: bool) -> None:
    running = Gateway(msgspec.structs.replace(config(), nextcloud=NextcloudSection(allow_any=allowed, secret=SECRET)))
    await running.start()
    await running.stop()
    warnings = [record for record in caplog.records if "nextcloud.allow_any is on" in record.getMessage()]
    assert [record.levelname for record in warnings] == (["WARNING"] if allowed else [])
    assert SECRET not in caplog.text


async def test_address_or_path_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = f"127.0.0.1:{occupied.getsockname()[1]}"
        folder, file = str(tmp_path / "none" / "portunus.sock"), tmp_path / "file"
        file.write_text("")
        for text, reason in (
            (port, "Address already in use"),
            (folder, "No such file or directory"),
            (str(file), f"{file} exists and is not a socket"),
        ):
            with pytest.raises(OSError, match=reason) as caught:
                await Gateway(config("127.0.0.1:0", text)).start()
            assert (caught.value.filename, caught.value.strerror) == (text, reason)
    socket_path = str(tmp_path / "none" / "admin.sock")
    with pytest.raises(FileNotFoundError) as caught:
        await Gateway(msgspec.structs.replace(config(), admin=AdminSection(socket_path))).start()
    assert caught.value.filename == socket_path


def test_serve_names_the_address_that_it_cannot_listen_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        file = tmp_path / "portunus.toml"
        file.write_text(f'[http]\nlisten = ["127.0.0.1:0", "{address}"]\n{_REST}')
        command = [PORTUNUS, "serve", "-c", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, f"Error: cannot listen on {address}: Address already in use\n")


async def test_address_in_use_is_an_error_and_frees_the_other_addresses() -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        running = Gateway(config(f"127.0.0.1:{port}", f"127.0.0.1:{occupied.getsockname()[1]}"))
        with pytest.raises(OSError, match="in use"):
            await running.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


def test_serve_prints_its_address_when_ready_logs_at_the_level_of_each_area_and_ends_on_sigterm(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    file.write_text(
        f'[http]\nlisten = ["127.0.0.1:0"]\n[sessions]\nsecret = "{SECRET}"\n'
        '[[backend]]\nid = "cloud"\nurls = ["https://cloud.invalid/"]\nsecret = "6ae1"\n'
    )
    command = [PORTUNUS, "serve", "-c", str(file), "--log-level", "error,http=debug"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("portunus listens on http://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2].strip(" /\n"))), 10) as client:
            client.sendall(b"no request\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        logged = process.stderr.read().splitlines()
    # without the warning of another area that no SFU is configured
    assert [(line.split("area=")[1].split()[0], "level=debug" in line) for line in logged] == [("http", True)]


@pytest.mark.parametrize(
    "text",
    [
        f'[http]\ncertificate = "/nowhere"\nkey = "/nowhere"\n{_REST}',
        '[sessions]\nsecret = "short"\n',
        "[http]\nlistn = []\n",
        "no toml",
        ONE_TWICE,
        "",
    ],
)
def test_serve_reports_why_it_cannot_start_in_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "portunus.toml"
    file.write_text(text)
    command = [PORTUNUS, "serve", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_sighup_reloads_the_configuration_unless_it_is_invalid(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    text = (
        f'[http]\nlisten = ["127.0.0.1:0"]\n[sessions]\nsecret = "{SECRET}"\n'
        '[[backend]]\nid = "cloud"\nurls = ["https://cloud.invalid/"]\nsecret = "6ae1"\n'
    )
    file.write_text(text)
    command = [PORTUNUS, "serve", "-c", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        assert "no SFU is configured" in process.stderr.readline()
        for changed, message in (
            ("nonsense", "the configuration was not changed"),
            (text.replace("127.0.0.1:0", "127.0.0.1:1"), "the configuration was reloaded"),
        ):
            file.write_text(changed)
            process.send_signal(signal.SIGHUP)
            assert message in process.stderr.readline()
        assert "a restart is needed for: http.listen" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


async def test_reload_changes_backends_for_new_and_open_sessions() -> None:
    first, second = FakeNextcloud(secret=SECRET), FakeNextcloud(secret=SECRET)
    async with first, second:
        base = config()
        running = Gateway(msgspec.structs.replace(base, backends=(first.backend("one"),)))
        (url,) = await running.start()
        try:
            async with TalkClient(url, first.url) as old, TalkClient(url, second.url) as new:
                await old.hello(first.ticket("anna"))
                with pytest.raises(RequestRefused, match="invalid_backend"):
                    await new.hello(second.ticket("ben"))
                assert await running.reload(msgspec.structs.replace(base, backends=(second.backend("two"),))) == []
                await new.hello(second.ticket("ben"))
                await old.join("room", nextcloud_session("anna"))
        finally:
            await running.stop()


async def test_reload_that_the_sfu_refuses_changes_nothing() -> None:
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        base = msgspec.structs.replace(
            config(),
            backends=(nextcloud.backend(),),
            mcu=McuSection("janus", settings=(JanusServerSettings("ws://127.0.0.1:9"),)),
        )
        running = Gateway(base)
        (url,) = await running.start()
        try:
            two = McuSection(
                "janus", settings=(JanusServerSettings("ws://127.0.0.1:10"), JanusServerSettings("ws://127.0.0.1:10"))
            )
            with pytest.raises(ValueError, match="two"):
                await running.reload(msgspec.structs.replace(base, backends=(), mcu=two))
            async with TalkClient(url, nextcloud.url) as anna:
                await anna.hello(nextcloud.ticket("anna"))
        finally:
            await running.stop()


async def test_reload_changes_allow_subscribe_any() -> None:
    mcu = McuSection("inprocess", timeout=0.1, settings=InprocessSettings())
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        base = msgspec.structs.replace(config(), backends=(nextcloud.backend(),), mcu=mcu)
        running = Gateway(base)
        (url,) = await running.start()
        try:
            async with TalkClient(url, nextcloud.url) as anna, TalkClient(url, nextcloud.url) as ben:
                for name, client in (("anna", anna), ("ben", ben)):
                    await client.hello(nextcloud.ticket(name))
                for allowed, code in ((False, "not_allowed"), (True, "client_not_found")):
                    section = msgspec.structs.replace(mcu, allow_subscribe_any=allowed)
                    assert await running.reload(msgspec.structs.replace(base, mcu=section)) == []
                    await ben.send_message(anna.session_id, {"type": "requestoffer", "roomType": "video"}, code)
                    answer = await ben.wait_for(lambda it, id=code: it.get("id") == id)  # type: ignore[misc]
                    assert answer["error"]["code"] == code
        finally:
            await running.stop()


# reference 2.5-f
async def test_sigusr1_stops_listening_and_waits_for_the_sessions(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        file.write_text(configuration_for(nextcloud))
        command = [PORTUNUS, "serve", "-c", str(file)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        url = (await process.stdout.readline()).decode().split()[-1]
        async with TalkClient(url, nextcloud.url) as anna:
            await anna.hello(nextcloud.ticket("anna"))
            process.send_signal(signal.SIGUSR1)
            while b"draining: no new sessions are accepted" not in await process.stderr.readline():
                assert not process.stderr.at_eof()
            late = TalkClient(url, nextcloud.url)
            with pytest.raises(aiohttp.ClientConnectorError):
                await late.connect()
            assert late._http is None  # connect() has closed its HTTP session
            await anna.join("room", nextcloud_session("anna"))
            assert process.returncode is None
            await anna.bye()
        assert await asyncio.wait_for(process.wait(), 20) == 0
