"""No secret, address, session description or token of a peer is in the log or among the recent refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
from ipaddress import IPv4Address, IPv6Address

from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core.backends import Backends
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.flows.refusals import Refusals
from gateway.metrics import Counters
from gateway.tools.fake_nextcloud import FakeNextcloud, SigningKey
from gateway.wire.backend import AuthRequest, BackendRequest, RoomRequest, SessionRequest
from gateway.wire.claims import INVALID_TOKEN, NOT_YET, TOKEN_EXPIRED
from mcu.janus.connection.messages import JanusError
from tests.captured_log import captured_lines
from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.federation.seats import harness_with, request_join
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, Json
from tests.gateway.flows.virtual_time import VirtualLoop, settle
from tests.gateway.manual_clock import ManualClock

KEY = SigningKey()
# Private texts that do not occur in a line by chance.
private = st.one_of(
    st.integers(2**31, 2**32 - 1).map(lambda it: str(IPv4Address(it))),
    st.integers(2**112, 2**128 - 1).map(lambda it: str(IPv6Address(it))),
    st.text("abcdefABCDEF0123456789", min_size=48, max_size=64).filter(lambda it: not it.isalpha()),
    st.builds("a=candidate:1 1 udp 1 {} 5000 typ host".format, st.ip_addresses(v=4)),
    st.builds("a=ice-pwd:{}".format, st.text("abcdefgh0123456789", min_size=22, max_size=22)),
    st.builds(lambda name: KEY.sign({"sub": name}), st.text(min_size=20)),
)
around = st.text("abcdefgh _:/'\"", max_size=12)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """Return a private text, and a text of a peer that contains it."""
    secret = draw(private)
    return secret, f"{draw(around)}{draw(st.sampled_from(['', ' ']))}{secret}{draw(around)}"


def assert_private(secret: str, lines: list[str]) -> None:
    """Assert that lines show neither a secret nor, of a longer text, its telling part."""
    parts = [word for word in secret.replace("a=ice-pwd:", "").split() if len(word) > 8] or [secret]
    assert lines
    assert [line for line in lines for part in parts if part in line] == []


@settings(deadline=None)
@given(texts(), st.sampled_from([INVALID_TOKEN, NOT_YET, TOKEN_EXPIRED]), st.booleans())
def test_claims_of_a_refused_token_are_not_shown(text: tuple[str, str], code: str, is_url: bool) -> None:
    secret, claim = text
    refusals = Refusals(ManualClock(), Counters())
    issuer = f"https://user:{claim}@h.example/" if is_url else claim
    token = KEY.sign(
        {"iss": issuer, "sub": claim, "userdata": {"displayname": claim}, "iat": 5, "exp": 1, "jti": claim}
    )
    with captured_lines() as lines:
        refusals.token(CLOUD, CLOUD.urls[0], code, token, 1000.0, Backends([CLOUD, OTHER_CLOUD]))
    assert_private(secret, lines + [line for _, line in refusals.recent])
    assert token.rpartition(".")[2] not in lines[0]


def error_document(text: str, status: int) -> web.Response:
    """Return an answer of Nextcloud with a text in all members of its error."""
    error = {"code": text, "message": text, "details": {text: text}}
    ocs = {"meta": {"statuscode": status, "message": text}, "data": {"type": "error", "error": error}}
    return web.Response(status=status, text=json.dumps({"ocs": ocs}), content_type="application/json")


REQUESTS: list[BackendRequest] = [
    AuthRequest(Raw(b"{}")),
    RoomRequest(roomid="r", userid="alice", sessionid="nc", version="1.0"),
    SessionRequest("r", "add", "id"),
]


def test_texts_in_errors_of_nextcloud_are_not_shown() -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:

        async def refused(cloud: FakeNextcloud, request: BackendRequest, text: str, status: int) -> list[str]:
            shown: list[str] = []
            cloud.hook = lambda seen: None if seen.type == "capabilities" else error_document(text, status)
            clock = ManualClock()
            with captured_lines() as lines:
                async with NextcloudClient("t/1", [], clock=clock, on_warning=lambda _, it: shown.append(it)) as client:
                    await client.ask(cloud.backend(), cloud.url, request)
                    problem = client.problem(cloud.backend())
            return [*lines, *shown, "" if problem is None else problem.reason]

        @settings(deadline=None, max_examples=40)
        @given(texts(), st.sampled_from(REQUESTS), st.sampled_from([400, 403, 500]))
        def check(text: tuple[str, str], request: BackendRequest, status: int) -> None:
            assert_private(text[0], runner.run(refused(cloud, request, text[1], status)))

        stack = contextlib.AsyncExitStack()
        cloud = runner.run(stack.enter_async_context(FakeNextcloud()))
        check()
        runner.run(stack.aclose())


async def join_refusing_host(attribute: str, answer: Json) -> list[str]:
    host = FakeHost()
    setattr(host, attribute, answer)
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        with captured_lines() as lines:
            request_join(client)
            await settle()
            if attribute == "resume":
                host.hello = answer
                host.connection.lose()
                await asyncio.sleep(20.0)
            return [*lines, *(line for _, line in harness.services.refusals.recent)]


@settings(deadline=None, max_examples=30)
@given(texts(), st.sampled_from(["hello", "resume", "join"]))
def test_texts_in_errors_of_a_host_of_federated_rooms_are_not_shown(text: tuple[str, str], attribute: str) -> None:
    answer = {"code": text[1], "message": text[1], "details": {text[1]: text[1]}}
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert_private(text[0], runner.run(join_refusing_host(attribute, answer)))


@settings(deadline=None)
@given(texts())
def test_texts_in_errors_of_janus_are_not_shown(text: tuple[str, str]) -> None:
    assert_private(text[0], [str(JanusError(499, text[1]))])
