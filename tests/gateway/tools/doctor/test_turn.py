"""The doctor's checks of a real coturn: allocation, forbidden peers, and each fault with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from aioice import stun
from aioice.turn import make_integrity_key

from gateway.config import TurnSection
from gateway.tools.doctor import turn
from gateway.tools.doctor.steps import Outcome
from gateway.tools.doctor.target import Target
from gateway.tools.doctor.turn import (
    ExaminedTurnCredentials,
    allocate,
    check_forbidden_peers,
    obtain_credentials,
)
from tests.gateway.tools.doctor.coturn import Coturn
from tests.gateway.tools.doctor.deployment import deployment, doctor, failed_steps
from tests.ports import PortBlock, lease_block

OTHER_SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def long_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limit, for a busy machine."""
    monkeypatch.setattr(turn, "ANSWER_LIMIT", 60.0)


@pytest.fixture
def ports() -> Iterator[PortBlock]:
    with lease_block() as block:
        yield block


@pytest.fixture
def coturn(tmp_path: Path, ports: PortBlock) -> Coturn:
    return Coturn(tmp_path, ports)


@pytest.fixture
async def credentials(coturn: Coturn) -> ExaminedTurnCredentials:
    made = ExaminedTurnCredentials()
    assert (await obtain_credentials(made, Target(""), TurnSection(secret=coturn.secret))).state == "ok"
    return made


class SilentRelay(asyncio.DatagramProtocol):
    """A TURN server that allocates an address, and answers no request about it but the deletion."""

    REALM, NONCE, RELAYED = "realm", b"nonce", ("127.0.0.1", 40_000)

    def __init__(self, credentials: ExaminedTurnCredentials, *, answers_allocation: bool) -> None:
        self._key = make_integrity_key(credentials.username, self.REALM, credentials.password)
        self._username, self._answers_allocation = credentials.username, answers_allocation
        self.deleted = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        request = stun.parse_message(data)
        known = "USERNAME" in request.attributes
        answer = stun.Message(
            request.message_method,
            stun.Class.RESPONSE if known else stun.Class.ERROR,
            transaction_id=request.transaction_id,
        )
        if not known:
            answer.attributes.update({"ERROR-CODE": (401, ""), "NONCE": self.NONCE, "REALM": self.REALM})
        elif request.message_method is stun.Method.ALLOCATE and self._answers_allocation:
            answer.attributes.update({"LIFETIME": 600, "XOR-RELAYED-ADDRESS": self.RELAYED})
            answer.attributes["XOR-MAPPED-ADDRESS"] = address
        elif request.message_method is stun.Method.REFRESH and request.attributes["LIFETIME"] == 0:
            self.deleted.set()
            answer.attributes["LIFETIME"] = 0
        else:
            return
        if known:
            answer.add_message_integrity(self._key)
        self._transport.sendto(bytes(answer), address)


@pytest.mark.parametrize("step", [allocate, check_forbidden_peers])
async def test_allocation_is_deleted_when_the_server_stops_answering(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[ExaminedTurnCredentials, str], Awaitable[Outcome]]
) -> None:
    monkeypatch.setattr(turn, "ANSWER_LIMIT", 0.3)
    credentials = ExaminedTurnCredentials("name", "password")
    relay = SilentRelay(credentials, answers_allocation=step is check_forbidden_peers)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    outcome = await step(credentials, f"turn:127.0.0.1:{port}?transport=udp")
    assert outcome.state == "failed"
    assert relay.deleted.is_set()
    transport.close()


@pytest.mark.full
async def test_relay_with_the_written_configuration_is_ok(coturn: Coturn, credentials: ExaminedTurnCredentials) -> None:
    async with coturn.running():
        for uri in (coturn.uri, f"{coturn.uri}?transport=udp", f"{coturn.uri}?transport=tcp"):
            assert await allocate(credentials, uri) == Outcome("ok", f"{uri} relays at 127.0.0.1")
            peers = await check_forbidden_peers(credentials, uri)
            assert (peers.state, peers.cause) == ("ok", "")


async def test_unreachable_relay_is_named(
    coturn: Coturn, credentials: ExaminedTurnCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = await allocate(credentials, f"{coturn.uri}?transport=tcp")
    assert (refused.state, refused.cause) == ("failed", "the TURN server cannot be reached")
    monkeypatch.setattr(turn, "ANSWER_LIMIT", 0.2)
    silent = await allocate(credentials, coturn.uri)
    assert (silent.state, silent.cause) == ("failed", "the TURN server does not answer")
    assert "start coturn" in silent.change


@pytest.mark.parametrize("uri", ["turn.example.com", "turn:a:b:c", "stun:a.example", "turn:a.example?transport=sctp"])
async def test_text_that_is_no_uri_is_named(uri: str) -> None:
    outcome = await allocate(ExaminedTurnCredentials(), uri)
    assert (outcome.state, outcome.cause) == ("failed", "this is not the URI of a TURN server")


@pytest.mark.full
async def test_turn_steps_use_the_credentials_of_the_gateway(tmp_path: Path, coturn: Coturn) -> None:
    section = f'[turn]\napi_key = "{OTHER_SECRET}"\nsecret = "{coturn.secret}"\nservers = ["{coturn.uri}"]\n'
    async with coturn.running(), deployment(tmp_path, section) as made:
        results = await made.examine()
        assert [(result.step, result.cause) for result in results if result.state in ("failed", "warning")] == []
        assert [result.step for result in results if result.step.startswith("TURN")] == [
            "TURN credentials",
            f"TURN 127.0.0.1:{coturn.port}",
            f"TURN 127.0.0.1:{coturn.port}: forbidden peers",
        ]
        made.text = made.text.replace(OTHER_SECRET, OTHER_SECRET[::-1])  # the gateway was not reloaded
        results = await made.examine()
    assert failed_steps(results) == ["TURN credentials"]
    assert "reload the gateway" in next(result.change for result in results if result.state == "failed")
    assert {result.cause for result in results if result.state == "not reached"} == {"because of: TURN credentials"}


@pytest.mark.full
async def test_named_servers_are_tried_by_the_command(tmp_path: Path, coturn: Coturn) -> None:
    (tmp_path / "secret").write_text(f"{coturn.secret}\n")
    arguments = ("--turn", coturn.uri, "--turn-secret", tmp_path / "secret")
    async with coturn.running(), deployment(tmp_path) as made:
        status, out, _ = await doctor(made.proxy.upstream, *arguments)
    assert status == 0, out
    assert f"{coturn.uri} relays at 127.0.0.1" in out
    assert f"{coturn.uri} refuses 127.0.0.1, " in out
    assert coturn.secret not in out
