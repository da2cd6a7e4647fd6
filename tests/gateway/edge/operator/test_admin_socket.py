"""The admin socket and the command ``portunus explain``."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result

from gateway.app import Gateway
from gateway.cli import main
from gateway.config import AdminSection, Config, HttpSection, SessionsSection
from gateway.core.ids import SessionIds
from gateway.core.limits import Backend, QualityRules
from gateway.core.room import RoomKey
from gateway.edge.operator.explain_api import ID_LENGTH
from tests.gateway.edge.operator.admin_harness import LIMITED_CLOUD, admin_harness, admin_socket, run_command
from tests.gateway.flows.harness import OTHER_CLOUD, FakeClient, FlowHarness
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.virtual_time import settle

NOT_THE_ADMIN_SOCKET = "is not the admin socket of this version of Portunus"


async def publishing_clients(harness: FlowHarness, *userids: str) -> list[FakeClient]:
    clients = [await harness.member(userid, in_call=True, backend=LIMITED_CLOUD) for userid in userids]
    for client in clients:
        client.offer(client.sessionid)
        await settle()
    return clients


async def explain(*arguments: str) -> Result:
    return await run_command("explain", *arguments)


async def test_each_publisher_is_explained_in_sentences(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        next(iter(harness.mcu.publishers.values())).limit_gate = asyncio.Event()  # no limit is confirmed
        (bob,) = await publishing_clients(harness, "bob")
        carol = await harness.member("carol", in_call=True, backend=LIMITED_CLOUD)
        carol.media(alice, "requestoffer")
        await settle()
        refusing = answer().replace("m=video 9", "m=video 0")
        carol.media(alice, "answer", payload={"type": "answer", "sdp": refusing})
        await settle()
        short_id = harness.services.calls.room_id(RoomKey("cloud", "r"))
        result = await explain("r", "--socket", str(path))
        assert (await explain(short_id, "--socket", str(path))).output == result.output
    assert result.exit_code == 0, result.output
    share = "Its camera may send up to 300 kbit/s, because 2 video streams share the room's 600 kbit/s."
    audio = "Its audio is sent as opus, because without a preference the SFU's order applies."
    video = "because the server's list says so."
    assert result.output.splitlines() == [
        f"Room r of backend cloud (in the log: {short_id}): 2 publishers.",
        f"{alice.sessionid[:ID_LENGTH]}… (not applied yet) {share} {audio} "
        f"Its video is sent as h264 (1 in the room cannot decode it), {video}",
        f"{bob.sessionid[:ID_LENGTH]}… {share} {audio} "
        f"Its video is sent as h264 (1 in the room cannot decode it), {video}",
    ]
    assert alice.sessionid not in result.output


async def test_explanation_can_be_printed_as_json(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        result = await explain("r", "--socket", str(path), "--backend", "cloud", "--json")
    body = json.loads(result.output)
    assert (body["backend"], body["room"]) == ("cloud", "r")
    (publisher,) = body["publishers"]
    reasons = publisher.pop("reasons")
    assert len(reasons) == 3
    assert publisher == {
        "session": alice.sessionid[:ID_LENGTH],
        "type": "video",
        "bitrate": 600_000,
        "applied": True,
        "codecs": {"audio": "opus", "video": "h264"},
    }


async def test_room_without_publishers_is_explained(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        await harness.member("alice", backend=LIMITED_CLOUD)
        short_id = harness.services.calls.room_id(RoomKey("cloud", "r"))
        result = await explain("r", "--socket", str(path))
    assert (result.exit_code, result.output) == (
        0,
        f"Room r of backend cloud (in the log: {short_id}): no publishers.\n",
    )


async def test_stream_without_quality_rules_has_no_limit(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        alice = await harness.member("alice", backend=OTHER_CLOUD)
        alice.offer()
        await settle()
        result = await explain("r", "--socket", str(path))
    assert ": 1 publisher." in result.output
    assert "Its camera may send without a limit, because nothing limits it." in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nowhere",), "no session is in a room nowhere"),
        (("nowhere", "--backend", "other"), "no session is in a room nowhere of backend other"),
        (("r",), "several backends have a room r: choose one of cloud, other"),
        (("r", "--backend", "nobody"), "there is no backend nobody"),
        (("",), "the parameter room is missing"),
    ],
)
async def test_refusal_is_printed_as_one_sentence(path: Path, arguments: tuple[str, ...], expected: str) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        await harness.member("alice", backend=LIMITED_CLOUD)
        await harness.member("alice", backend=OTHER_CLOUD)
        result = await explain(*arguments, "--socket", str(path))
        assert (result.exit_code, result.output) == (1, f"Error: {expected}\n")
        assert (await explain("r", "--backend", "other", "--socket", str(path))).exit_code == 0


async def test_socket_is_limited_to_the_own_user_and_removed_at_the_end(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD):
        assert permissions_of(path) == 0o600
        with other_user(path):
            result = await explain("r", "--socket", str(path))
        assert (result.exit_code, result.output) == (3, f"Error: only the gateway's own user may connect to {path}\n")
    assert permissions_of(path) is None


async def test_missing_socket_and_missing_listener_have_different_errors(path: Path) -> None:
    result = await explain("r", "--socket", str(path))
    expected = f"there is no {path}: is the gateway running, with this path as admin.socket?"
    assert (result.exit_code, result.output) == (3, f"Error: {expected}\n")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    result = await explain("r", "--socket", str(path))
    assert (result.exit_code, result.output) == (3, f"Error: no gateway listens on {path}\n")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", NOT_THE_ADMIN_SOCKET),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n?", NOT_THE_ADMIN_SOCKET),
        (b'HTTP/1.1 400 Bad Request\r\nContent-Length: 13\r\n\r\n{"error":"\xff"}', NOT_THE_ADMIN_SOCKET),
        (b"", "does not answer (ServerDisconnectedError)"),
    ],
)
async def test_answer_of_another_program_is_an_error(path: Path, reply: bytes, expected: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(path)):
        result = await explain("r", "--socket", str(path))
    assert (result.exit_code, result.output) == (3, f"Error: {path} {expected}\n")


async def test_command_reads_the_socket_from_the_configuration(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    minimal = (
        '[sessions]\nsecret = "0123456789abcdef0123456789abcdef"\n[nextcloud]\nallow_any = true\nsecret = "5f0c"\n'
    )
    file.write_text(f'{minimal}[admin]\nsocket = "{path}"\n')
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        await harness.member("alice", backend=LIMITED_CLOUD)
        assert (await explain("r", "-c", str(file))).exit_code == 0
    file.write_text(minimal)
    for arguments, status, expected in (
        (("r", "-c", str(file)), 2, "has no admin.socket"),
        (("r",), 2, "Give the gateway's configuration (-c) or its admin socket (--socket)."),
        (("r", "-c", str(tmp_path / "none")), 1, "cannot be read"),
    ):
        result = await explain(*arguments)
        assert result.exit_code == status
        assert expected in result.output


async def test_short_id_of_a_room_is_computed_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    secret = "a secret of the tests, long enough, and of 32 bytes"
    backends = "".join(
        f'[[backend]]\nid = "{id}"\nurls = ["https://{id}.example/"]\nsecret = "{id}-5f0c7a1e9b"\n'
        for id in ("cloud", "other")
    )
    file.write_text(f'[sessions]\nsecret = "{secret}"\n{backends}')
    ids = SessionIds(secret)
    lines = [f"{ids.short_room_id(backend, 'r')} {backend}" for backend in ("cloud", "other")]
    for arguments, status, expected in (
        ((), 0, lines),
        (("--backend", "other"), 0, lines[1:]),
        (("--backend", "nobody"), 2, ["Error: there is no backend nobody"]),
    ):
        result = CliRunner().invoke(main, ["room-id", "r", "-c", str(file), *arguments])
        assert (result.exit_code, result.output.splitlines()[-len(expected) :]) == (status, expected)
    assert CliRunner().invoke(main, ["room-id", "r", "-c", str(tmp_path / "none")]).exit_code == 1


async def test_stale_socket_is_replaced_and_one_in_use_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        second = admin_socket(harness)
        with pytest.raises(OSError, match="is in use by another program"):
            await second.start(str(path))
        await second.stop()
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as client, client.get("http://x/else") as response:
            assert response.status == 404
    missing = path.parent / "none" / "admin.sock"
    with pytest.raises(OSError, match="No such file"):
        await second.start(str(missing))
    await second.stop()


async def test_empty_path_disables_the_admin_socket() -> None:
    async with FlowHarness(LIMITED_CLOUD) as harness:
        admin = admin_socket(harness)
        await admin.start("")
        await admin.stop()


def permissions_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


@contextmanager
def other_user(path: Path) -> Iterator[None]:
    """Act as a user without access to the socket: another user as root, else by removing the own access."""
    if os.geteuid() != 0:
        path.chmod(0)
        yield
        return
    path.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_reload_changes_the_quality_rules_but_not_the_path_of_the_admin_socket(path: Path) -> None:
    def config(budget: int, socket: str) -> Config:
        backend = Backend("cloud", ("https://cloud.example/",), "secret of the cloud")
        return Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(backend,),
            quality=QualityRules(room_budget=budget),
            admin=AdminSection(socket=socket),
        )

    gateway = Gateway(config(0, str(path)))
    await gateway.start()
    try:
        result = await explain("r", "--socket", str(path))
        assert (result.exit_code, result.output) == (1, "Error: no session is in a room r\n")
        assert await gateway.reload(config(500_000, str(path))) == []
        assert await gateway.reload(config(500_000, "")) == ["admin.socket"]
    finally:
        await gateway.stop()
    assert permissions_of(path) is None


async def test_gateway_does_not_start_without_its_admin_socket(tmp_path: Path) -> None:
    sessions, admin = (
        SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
        AdminSection(str(tmp_path / "none" / "admin")),
    )
    gateway = Gateway(Config(sessions=sessions, http=HttpSection(listen=("127.0.0.1:0",)), admin=admin))
    with pytest.raises(OSError, match="No such file"):
        await gateway.start()
