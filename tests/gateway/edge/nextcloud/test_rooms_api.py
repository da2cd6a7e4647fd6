"""The rooms API over real HTTP: authentication, checks of the request, and answers."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.core.backends import Backends
from gateway.core.limits import Backend, Limits
from gateway.core.throttle import ThrottledAction
from gateway.edge.http import caller
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.body import BodyReader
from gateway.edge.nextcloud.rooms_api import MAX_BODY_WITHOUT_URL, RoomsApi
from gateway.flows import throttling
from gateway.flows.backend.requests import MalformedRequest
from gateway.flows.internal.dialout_replies import DialoutReply
from gateway.flows.refusals import Refusals
from gateway.flows.throttling import Caller, Throttling
from gateway.metrics import Counters
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.wire import checksum
from gateway.wire.backend import Dialout, RoomsRequest
from tests.captured_log import captured_lines
from tests.gateway.edge.serving import exchange, served_routes
from tests.gateway.flows.fakes import DisconnectedCaller

MAX_BODY = Limits().backend_request_bytes
DELETE = b'{"type":"delete","delete":{"userids":[]}}'
RANDOM = "r" * 64
OTHER_BACKEND = Backend(id="other", urls=("https://other/",), secret="other-secret")


class ObservedThrottling(Throttling):
    """Throttling that sets events when a delay begins and ends."""

    def __init__(self, clock: Callable[[], float], counters: Counters) -> None:
        super().__init__(clock, counters)
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def record_failure(self, caller: Caller, action: ThrottledAction) -> bool:
        self.began.set()
        blocked = await super().record_failure(caller, action)
        self.ended.set()
        return blocked


class RoomsApiServer:
    """Rooms API behind a real socket; the requests that it hands to the flows are recorded."""

    def __init__(self) -> None:
        self.cloud = FakeNextcloud()
        self.calls: list[tuple[str, str, RoomsRequest]] = []
        self.fails = False
        self.read_time = 15.0
        self.max_body = MAX_BODY
        self.now = 0.0
        self.dialled: list[tuple[str, str, str, str]] = []
        self.address = ("", 0)
        self.counters = Counters()
        self.throttling = ObservedThrottling(lambda: 0.0, self.counters)
        self.backends = Backends([])

    def carry_out(self, backend: Backend, roomid: str, request: RoomsRequest) -> None:
        if self.fails:
            raise RuntimeError("broken")
        if request.type == "switchto":
            raise MalformedRequest("no sessions")
        self.calls.append((backend.id, roomid, request))

    async def dial(self, backend: Backend, roomid: str, call: Dialout, url: str) -> DialoutReply:
        if self.fails:
            raise RuntimeError("broken")
        await asyncio.sleep(0)
        self.dialled.append((backend.id, roomid, call.number or "", url))
        return DialoutReply(502, b'{"an":"answer"}')

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    async def post(
        self, body: bytes = DELETE, path: str = "room1", length: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """Send a signed request; ``headers`` (with _ for -) replace its own, and an empty value omits one."""
        given = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": RANDOM,
            "Spreed-Signaling-Checksum": checksum.sign(self.cloud.secret, RANDOM, body),
            "Spreed-Signaling-Backend": self.cloud.url,
            "Content-Length": length or str(len(body)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        text = f"POST /api/v1/room/{path} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode()
        status, received, answer = await exchange(self.address, text + body)
        assert received["x-content-type-options"] == "nosniff"
        is_json = status == 200 or answer[:1] == b"{"
        expected = "application/json; charset=utf-8" if is_json else "text/plain; charset=utf-8"
        assert received["content-type"] == expected
        return status, answer


@pytest.fixture
async def gateway() -> AsyncIterator[RoomsApiServer]:
    made = RoomsApiServer()
    async with made.cloud:
        proxies = TrustedProxies(["127.0.0.1", "198.51.100.0/24"])
        made.backends = Backends([made.cloud.backend(), OTHER_BACKEND])
        bodies = BodyReader(lambda: made.read_time)
        api = RoomsApi(
            made,
            made.carry_out,
            made.dial,
            proxies,
            made.throttling,
            Refusals(lambda: made.now, made.counters),
            lambda: made.now,
            bodies,
            lambda: made.max_body,
        )
        async with served_routes([web.post("/api/v1/room/{roomid}", api.handle)]) as address:
            made.address = address
            yield made


# reference 1.4-e
async def test_signed_request_is_carried_out(gateway: RoomsApiServer) -> None:
    assert await gateway.post() == (200, b"{}")
    ((backend, roomid, request),) = gateway.calls
    assert (backend, roomid, request.type) == ("cloud", "room1", "delete")


async def test_answer_tells_how_the_client_arrives_and_no_other_trusted_proxy(gateway: RoomsApiServer) -> None:
    status, answer = await gateway.post(X_Portunus_Seen_Client="1", X_Real_IP="192.0.2.7")
    client = json.loads(answer)["client"]
    assert client.pop("peer_port") > 0
    expected = {"address": "192.0.2.7", "peer": "127.0.0.1", "trusted": True, "named": ["192.0.2.7"]}
    assert (status, client) == (200, expected)


async def test_request_of_the_fake_nextcloud_is_carried_out(gateway: RoomsApiServer) -> None:
    request = {"type": "message", "message": {"data": {"a": 1}}}
    assert await gateway.cloud.send(gateway.url, "a/b c%", request) == (200, "{}")
    assert gateway.calls[0][1] == "a/b c%"


# reference 1.2-c
async def test_room_id_is_one_decoded_segment(gateway: RoomsApiServer) -> None:
    assert (await gateway.post(path="a%2Fb%20%C3%BC"))[0] == 200
    assert gateway.calls[0][1] == "a/b ü"


LENGTH_REQUIRED = (411, b"Length required\n")
TOO_LARGE = (413, b"Request entity too large\n")
UNSUPPORTED_TYPE = (400, b"Unsupported Content-Type\n")
NOT_AUTHENTIC = (403, b"Authentication check failed\n")
UNREADABLE = (400, b"Could not read body\n")


async def test_body_without_a_length_is_refused_first(gateway: RoomsApiServer) -> None:
    chunked = b"2\r\n{}\r\n0\r\n\r\n"
    given = {"Content_Length": "", "Transfer_Encoding": "chunked", "Content_Type": "", "Spreed_Signaling_Random": ""}
    assert await gateway.post(chunked, **given) == LENGTH_REQUIRED


# reference 1.4-b
async def test_body_over_the_limit_is_refused_before_its_type(gateway: RoomsApiServer) -> None:
    assert await gateway.post(b"", length=str(MAX_BODY + 1), Content_Type="text/plain") == TOO_LARGE


async def test_body_of_exactly_the_limit_is_read(gateway: RoomsApiServer) -> None:
    assert await gateway.post(DELETE.ljust(MAX_BODY)) == (200, b"{}")


# reference 1.4-g
async def test_request_about_a_call_of_1000_is_accepted(gateway: RoomsApiServer) -> None:
    entries = [
        {"inCall": 7, "lastPing": 1_700_000_000, "sessionId": f"{number:0255d}", "nextcloudSessionId": "/" * 255}
        | {"participantPermissions": 254, "actorType": "users", "actorId": f"user {number}" + "x" * 400}
        for number in range(1000)
    ]
    body = json.dumps({"type": "incall", "incall": {"incall": 7, "changed": entries, "users": entries}}).encode()
    assert len(body) > 2_000_000
    assert await gateway.post(body) == (200, b"{}")
    incall = gateway.calls[0][2].incall
    assert incall is not None
    assert [len(entries or ()) for entries in (incall.changed, incall.users)] == [1000, 1000]


# reference 1.4-g
async def test_limit_of_a_body_is_configured(gateway: RoomsApiServer) -> None:
    gateway.max_body = len(DELETE) - 1
    assert await gateway.post() == TOO_LARGE
    gateway.max_body = 0
    assert await gateway.post(DELETE.ljust(MAX_BODY + 1)) == (200, b"{}")


# reference 1.4-b
async def test_body_of_a_request_without_a_backend_has_its_own_limit(gateway: RoomsApiServer) -> None:
    body = DELETE.ljust(MAX_BODY_WITHOUT_URL)
    assert await gateway.post(body, Spreed_Signaling_Backend="") == (200, b"{}")
    assert await gateway.post(body + b" ", Spreed_Signaling_Backend="") == TOO_LARGE


# reference 1.4-h
@pytest.mark.parametrize(
    ("headers", "is_read"),
    [
        ({"Spreed_Signaling_Checksum": "0" * 64}, True),
        ({"Spreed_Signaling_Checksum": "0" * 63}, False),
        ({"Spreed_Signaling_Checksum": "G" * 64}, False),
        ({"Spreed_Signaling_Random": "r" * 1025}, False),
        ({"Spreed_Signaling_Backend": "https://unknown/"}, False),
    ],
)
async def test_body_is_read_only_if_the_headers_are_plausible(
    gateway: RoomsApiServer, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], is_read: bool
) -> None:
    original, sizes = BodyReader.read, []

    async def observed(reader: BodyReader, request: web.Request) -> bytes:
        body = await original(reader, request)
        sizes.append(len(body))
        return body

    monkeypatch.setattr(BodyReader, "read", observed)
    assert await gateway.post(DELETE.ljust(MAX_BODY_WITHOUT_URL), **headers) == NOT_AUTHENTIC
    assert sizes == ([MAX_BODY_WITHOUT_URL] if is_read else [])


# reference 1.4-h
async def test_no_body_is_kept_while_its_refusal_is_delayed(
    gateway: RoomsApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Body(bytes):
        """Bytes whose deallocation is recorded."""

        def __del__(self) -> None:
            freed.append(len(self))

    freed: list[int] = []

    async def read(reader: BodyReader, request: web.Request) -> bytes:
        return Body(await request.content.readexactly(request.content_length or 0))

    monkeypatch.setattr(BodyReader, "read", read)
    await record_failures(gateway, 8)
    gateway.throttling.began.clear()
    waiting = asyncio.create_task(gateway.post(Spreed_Signaling_Checksum=WRONG_CHECKSUM))
    async with asyncio.timeout(5):
        await gateway.throttling.began.wait()
    gc.collect()
    assert freed == [len(DELETE)]
    waiting.cancel()


# reference 1.4-b
@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"message","message":{"data":{"a":"\xff"}}}',
        b'{"type":"message","message":{"data":"\xed\xa0\x80"}}',
        b'{"type":"incall","incall":{"users":[{"sessionId":"\xc3"}]}}',
        b'{"type":"\xff"}',
        '{"type":"delete","delete":{}}'.encode("utf-16"),
        b"\xef\xbb\xbf" + DELETE,
    ],
)
async def test_body_that_is_no_utf_8_is_malformed(gateway: RoomsApiServer, body: bytes) -> None:
    with captured_lines() as lines:
        assert await gateway.post(body) == UNREADABLE
    assert gateway.calls == []
    assert len(lines) == 1
    assert "backend cloud" in lines[0]
    assert "Traceback" not in lines[0]


@pytest.mark.parametrize("content_type", ["", "text/plain", "Application/JSON", "xapplication/json"])
async def test_other_content_type_is_refused_before_the_checksum(gateway: RoomsApiServer, content_type: str) -> None:
    assert await gateway.post(Content_Type=content_type, Spreed_Signaling_Random="") == UNSUPPORTED_TYPE


async def test_content_type_may_have_parameters(gateway: RoomsApiServer) -> None:
    assert (await gateway.post(Content_Type="application/json; charset=utf-8"))[0] == 200


@pytest.mark.parametrize("missing", ["Spreed_Signaling_Random", "Spreed_Signaling_Checksum"])
async def test_unsigned_request_is_refused_before_its_body_is_read(gateway: RoomsApiServer, missing: str) -> None:
    assert await gateway.post(b"", length="100", **{missing: ""}) == NOT_AUTHENTIC


async def test_body_that_does_not_arrive_in_time_is_refused(gateway: RoomsApiServer) -> None:
    gateway.read_time = 0.05
    assert await gateway.post(DELETE, length=str(len(DELETE) + 1), Spreed_Signaling_Backend="https://x/") == UNREADABLE


async def test_incomplete_body_is_not_carried_out(gateway: RoomsApiServer) -> None:
    _, writer = await asyncio.open_connection(*gateway.address)
    sign = checksum.sign(gateway.cloud.secret, RANDOM, DELETE)
    head = "POST /api/v1/room/r HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    head += f"Spreed-Signaling-Random: {RANDOM}\r\nSpreed-Signaling-Checksum: {sign}\r\n\r\n"
    writer.write(head.encode() + DELETE)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await gateway.post())[0] == 200
    assert len(gateway.calls) == 1


@pytest.mark.parametrize(
    "url",
    ["https://unknown/", "https://other/", "junk", "https://", "file:///etc/passwd", "http://[", "*"],
)
async def test_backend_url_of_another_signer_is_refused(gateway: RoomsApiServer, url: str) -> None:
    assert await gateway.post(b"{", Spreed_Signaling_Backend=url) == NOT_AUTHENTIC


async def test_backend_url_may_have_a_path_below_or_no_slash(gateway: RoomsApiServer) -> None:
    base = gateway.cloud.url.rstrip("/")
    assert (await gateway.post(Spreed_Signaling_Backend=base))[0] == 200
    assert (await gateway.post(Spreed_Signaling_Backend=f"{base}/ocs/v2.php/apps/spreed/api/v1/signaling"))[0] == 200


# reference 1.4-d
async def test_request_without_a_backend_url_is_checked_with_each_secret(gateway: RoomsApiServer) -> None:
    assert (await gateway.post(Spreed_Signaling_Backend=""))[0] == 200
    other = checksum.sign(OTHER_BACKEND.secret, RANDOM, DELETE)
    assert (await gateway.post(Spreed_Signaling_Backend="", Spreed_Signaling_Checksum=other))[0] == 200
    assert await gateway.post(Spreed_Signaling_Backend="", Spreed_Signaling_Checksum="0" * 64) == NOT_AUTHENTIC
    assert [backend for backend, _, _ in gateway.calls] == ["cloud", "other"]


# reference 1.4-a
async def test_checksum_is_compared_case_sensitively(gateway: RoomsApiServer) -> None:
    upper = checksum.sign(gateway.cloud.secret, RANDOM, DELETE).upper()
    assert await gateway.post(Spreed_Signaling_Checksum=upper) == NOT_AUTHENTIC
    assert await gateway.post(Spreed_Signaling_Checksum="ü" * 64) == NOT_AUTHENTIC


# reference 1.4-b
async def test_checksum_is_checked_before_the_body_is_parsed(gateway: RoomsApiServer) -> None:
    assert await gateway.post(b"{", Spreed_Signaling_Checksum="0" * 64) == NOT_AUTHENTIC


# reference 1.4-f
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"type":7}', b"[" * 100_000, b'{"a":' * 40_000),
        b'{"type":"delete"}',
        b'{"type":"delete","delete":null}',
        b'{"type":"delete","delete":[]}',
        b'{"type":"update","update":{"userids":7}}',
    ],
)
async def test_malformed_body_is_refused(gateway: RoomsApiServer, body: bytes) -> None:
    assert await gateway.post(body) == UNREADABLE
    assert gateway.calls == []


# reference 1.4-b
@pytest.mark.parametrize("type", ["mute", "transient", "", "type"])
async def test_unknown_request_type_is_named_in_the_refusal(gateway: RoomsApiServer, type: str) -> None:
    expected = (400, f"Unsupported request type: {type}\n".encode())
    assert await gateway.post(b'{"type":"%s"}' % type.encode()) == expected


async def test_exception_is_logged_and_not_sent_to_the_caller(gateway: RoomsApiServer) -> None:
    gateway.fails = True
    with captured_lines() as lines:
        assert await gateway.post() == (500, b"Error while processing\n")
    assert any("RuntimeError: broken" in line for line in lines)
    gateway.fails = False
    assert await gateway.post() == (200, b"{}")


WRONG_CHECKSUM = "0" * 64


async def record_failures(gateway: RoomsApiServer, times: int, address: str = "127.0.0.1") -> None:
    for _ in range(times):
        await gateway.throttling.record_failure(DisconnectedCaller(address), ThrottledAction.ROOM_AUTH)


# reference 1.4-c
async def test_wrong_checksum_is_answered_late(gateway: RoomsApiServer) -> None:
    started = asyncio.get_running_loop().time()
    assert await gateway.post(Spreed_Signaling_Checksum=WRONG_CHECKSUM) == NOT_AUTHENTIC
    assert await gateway.post(Spreed_Signaling_Backend="https://unknown/") == NOT_AUTHENTIC
    assert asyncio.get_running_loop().time() - started >= 0.3
    assert gateway.counters.throttle_delayed == {("BackendRoomAuth", 100): 1, ("BackendRoomAuth", 200): 1}


# reference 14.1-d
@pytest.mark.parametrize("backend", [None, "https://unknown/"])
async def test_address_with_ten_failures_is_refused_with_429_unless_its_signature_is_correct(
    gateway: RoomsApiServer, backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "MAX_DELAY", 0.3)
    await record_failures(gateway, 10, "192.0.2.1")
    wrong: dict[str, Any] = {"X_Real_IP": "192.0.2.1", "Spreed_Signaling_Checksum": WRONG_CHECKSUM}
    if backend is not None:
        wrong["Spreed_Signaling_Backend"] = backend
    started = asyncio.get_running_loop().time()
    assert await gateway.post(**wrong) == (429, b"Too many requests\n")
    assert asyncio.get_running_loop().time() - started >= 0.3
    assert await gateway.post(X_Real_IP="192.0.2.1") == (200, b"{}")
    assert gateway.counters.throttle_bruteforce == {"BackendRoomAuth": 1}


# reference 1.4-b
async def test_block_applies_after_the_header_checks_and_to_wrong_signatures_only(
    gateway: RoomsApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "MAX_DELAY", 0.1)
    await record_failures(gateway, 10)
    assert await gateway.post(Content_Type="text/plain") == UNSUPPORTED_TYPE
    assert await gateway.post(Spreed_Signaling_Random="") == NOT_AUTHENTIC
    assert await gateway.post(b"{", Spreed_Signaling_Checksum=WRONG_CHECKSUM) == (429, b"Too many requests\n")
    assert (await gateway.post(b"{"))[0] == 400


# reference 1.4-i
async def test_refusals_are_logged_once_a_minute_for_each_cause(
    gateway: RoomsApiServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "portunus")
    monkeypatch.setattr(throttling, "MAX_DELAY", 0.0)
    await record_failures(gateway, 10)
    for seconds in (0.0, 1.0, 2.0, 61.0):
        gateway.now = seconds
        await gateway.post(Spreed_Signaling_Checksum=WRONG_CHECKSUM)
    for url in ("https://unknown:8443/a?secret=1", "https://unknown:8443/b", "http://localhost", "junk\x85", ""):
        await gateway.post(Spreed_Signaling_Backend=url, Spreed_Signaling_Checksum=WRONG_CHECKSUM)
    gateway.max_body = 1
    await gateway.post()
    await gateway.post(Spreed_Signaling_Backend="https://unknown/")
    gateway.max_body = MAX_BODY
    await gateway.post(b'{"type":"x"}')
    refused = "requests to the rooms API are refused: no backend is configured for "
    secret = f"requests to the rooms API for backend cloud at {gateway.cloud.url} are refused, their signature is"
    expected = [
        (secret, "High-performance backend)"),
        (secret, "(2 more before)"),
        (refused + "https://unknown:8443/a, which is not the base URL", ""),
        (refused + "http://localhost/; the nearest URL is ", ""),
        (refused + "a text that is no http or https URL", "not the base URL of a Nextcloud"),
        ("requests to the rooms API without a backend URL are refused: ", ""),
        ("a request of backend cloud to the rooms API is refused: its body is larger than ", "backend_request_bytes"),
        ("a request of backend cloud to the rooms API is refused: ", "its type is not supported"),
    ]
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == len(expected)
    for line, (begin, end) in zip(found, expected, strict=True):
        assert (line[: len(begin)], line[len(line) - len(end) :]) == (begin, end)
        assert "secret=1" not in line


async def test_failed_signatures_are_counted_by_backend_and_cause(gateway: RoomsApiServer) -> None:
    await gateway.post(Spreed_Signaling_Checksum=WRONG_CHECKSUM)
    await gateway.post(Spreed_Signaling_Checksum="")
    await gateway.post(Spreed_Signaling_Backend="https://unknown/")
    await gateway.post(Spreed_Signaling_Backend="", Spreed_Signaling_Checksum=WRONG_CHECKSUM)
    assert gateway.counters.authentication_failures == {
        ("cloud", "wrong_checksum"): 1,
        ("", "unsigned"): 1,
        ("", "unknown_backend"): 1,
        ("", "wrong_checksum"): 1,
    }


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content_Length": "", "Transfer_Encoding": "chunked"}, "a proxy must not send them chunked"),
        ({"Content_Type": "text/plain"}, "Content-Type is not application/json"),
        ({"Spreed_Signaling_Random": ""}, "a proxy in between removes them"),
    ],
)
async def test_request_that_a_proxy_has_altered_is_logged(
    gateway: RoomsApiServer, headers: dict[str, Any], reason: str
) -> None:
    with captured_lines() as lines:
        for _ in range(3):
            assert (await gateway.post(b"2\r\n{}\r\n0\r\n\r\n", **headers))[0] != 200
    (line,) = lines
    assert reason in line


# reference 1.4-c
async def test_unsigned_requests_are_not_counted_as_failures(gateway: RoomsApiServer) -> None:
    for _ in range(12):
        assert await gateway.post(Spreed_Signaling_Checksum="") == NOT_AUTHENTIC
    assert await gateway.post() == (200, b"{}")


async def test_delay_ends_when_the_caller_disconnects(gateway: RoomsApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "POLL_PERIOD", 0.01)
    await record_failures(gateway, 8)
    waiting = asyncio.create_task(gateway.post(Spreed_Signaling_Checksum=WRONG_CHECKSUM))  # for 25 s
    async with asyncio.timeout(5):
        await gateway.throttling.began.wait()
        waiting.cancel()
        await gateway.throttling.ended.wait()


async def test_phone_call_is_answered_with_the_reply_of_the_internal_client(gateway: RoomsApiServer) -> None:
    body = b'{"type":"dialout","dialout":{"number":"+49"}}'
    assert await gateway.post(body, "12") == (502, b'{"an":"answer"}')
    assert gateway.dialled == [("cloud", "12", "+49", gateway.cloud.url)]
    assert gateway.calls == []
    gateway.fails = True
    assert (await gateway.post(body, "12"))[0] == 500


async def test_phone_call_without_its_object_is_refused(gateway: RoomsApiServer) -> None:
    assert await gateway.post(b'{"type":"dialout"}') == UNREADABLE
    assert gateway.dialled == []


# reference 6.8-b
async def test_malformed_switchto_is_a_processing_error(gateway: RoomsApiServer) -> None:
    body = b'{"type":"switchto","switchto":{"roomid":"r","sessions":1}}'
    assert await gateway.post(body) == (500, b"Error while processing\n")
