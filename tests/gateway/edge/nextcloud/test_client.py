"""Requests to Nextcloud, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import Raw, structs

from gateway.core.limits import Backend
from gateway.edge.nextcloud.backend_http import MAX_BODY
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.flows.ports import NextcloudError
from gateway.metrics import Counters
from gateway.tools.fake_nextcloud import FakeNextcloud, Hook
from gateway.tools.talk_answers import NextcloudRoom
from gateway.wire.backend import AuthRequest, BackendAnswer, PingEntry, PingRequest, RoomRequest
from tests.captured_log import captured_lines
from tests.gateway.certificates import make_certificate
from tests.gateway.manual_clock import ManualClock
from tests.ports import free_ports

FEATURES = ["hello-v2", "audio-video-permissions"]
JOIN = RoomRequest(roomid="r1", userid="alice", sessionid="nc1", version="1.0")


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def client(clock: ManualClock, counters: Counters) -> AsyncIterator[NextcloudClient]:
    async with NextcloudClient("test/1.0", FEATURES, clock=clock, counters=counters, timeout=5.0) as made:
        yield made


def hook_for(type: str, answer: Callable[[], web.StreamResponse]) -> Hook:
    """Return a hook for one type of request."""
    return lambda seen: answer() if seen.type == type else None


async def join(client: NextcloudClient, cloud: FakeNextcloud) -> BackendAnswer:
    return await client.ask(cloud.backend(), cloud.url, JOIN)


async def failure(client: NextcloudClient, cloud: FakeNextcloud) -> str:
    """Return the text of the error of a join, which must contain no address."""
    with pytest.raises(NextcloudError) as caught:
        await join(client, cloud)
    text = str(caught.value)
    assert "127.0.0.1" not in text
    return text


# reference 3.7-a
async def test_join_is_signed_and_its_answer_unwrapped(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    cloud.rooms["r1"] = NextcloudRoom(properties={"name": "Room"}, permissions=["control"], session={"userid": "guest"})
    answer = await join(client, cloud)
    assert answer.type == "room"
    assert answer.room is not None
    assert bytes(answer.room.properties) == b'{"name":"Room"}'
    assert answer.room.permissions == ["control"]
    assert answer.room.userid == "guest"
    (seen,) = cloud.requests_of("room")
    assert seen.body == {"version": "1.0", "roomid": "r1", "userid": "alice", "sessionid": "nc1"}
    assert seen.path == "/ocs/v2.php/apps/spreed/api/v3/signaling/backend"


# reference 3.7-b
async def test_headers_are_those_that_nextcloud_expects(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    await join(client, cloud)
    capabilities, request = cloud.requests
    assert capabilities.type == "capabilities"
    for seen in (capabilities, request):
        assert seen.headers["Accept"] == "application/json"
        assert seen.headers["OCS-APIRequest"] == "true"
        assert seen.headers["User-Agent"] == "test/1.0"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Spreed-Signaling-Features"] == "audio-video-permissions, hello-v2"
    assert re.fullmatch(r"\w{64}", request.headers["Spreed-Signaling-Random"])
    assert "Spreed-Signaling-Backend" not in request.headers


# reference 3.7-b
async def test_random_differs_in_each_request(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    await join(client, cloud)
    await join(client, cloud)
    first, second = (seen.headers["Spreed-Signaling-Random"] for seen in cloud.requests_of("room"))
    assert first != second


# reference 3.7-a
async def test_path_has_v1_without_signaling_v3(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    cloud.features = ["audio"]
    await join(client, cloud)
    assert cloud.requests_of("room")[0].path == "/ocs/v2.php/apps/spreed/api/v1/signaling/backend"


async def test_ticket_and_ping_are_sent(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    params = f'{{"userid": "alice", "ticket": "{cloud.ticket("alice")["ticket"]}"}}'.encode()
    answer = await client.ask(cloud.backend(), cloud.url, AuthRequest(params=Raw(params)))
    assert answer.auth is not None
    assert answer.auth.userid == "alice"
    assert bytes(answer.auth.user) == b'{"displayname":"Alice"}'
    refused = await client.ask(cloud.backend(), cloud.url, AuthRequest(params=Raw(b"[]")))
    assert refused.error is not None
    assert refused.error.code == "invalid_ticket"
    await client.ask(cloud.backend(), cloud.url, PingRequest("r1", (PingEntry("alice", "nc1"),)))
    assert cloud.requests_of("ping")[0].body["entries"] == [{"userid": "alice", "sessionid": "nc1"}]


async def test_nextcloud_refuses_a_wrong_secret(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    backend = cloud.backend()
    cloud.secret = "another"
    answer = await client.ask(backend, cloud.url, JOIN)
    assert answer.error is not None
    assert answer.error.code == "invalid_request"


# reference 3.7-c
async def test_http_status_is_ignored(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    body = b'{"ocs":{"meta":{"statuscode":404},"data":{"type":"error","error":{"code":"no_such_room","message":"m"}}}}'
    cloud.hook = hook_for("room", lambda: web.Response(status=404, body=body, content_type="application/json"))
    answer = await join(client, cloud)
    assert answer.error is not None
    assert answer.error.code == "no_such_room"


# reference 3.7-c
@pytest.mark.parametrize(
    ("body", "content_type", "text", "error"),
    [
        (b"<html>", "text/html", "unsupported_content_type", "invalid_content_type"),
        (b"{", "application/json", None, "error_decoding_ocs"),
        (b"[" * 100_000, "application/json", None, "error_decoding_ocs"),
        (b"\xff", "application/json", None, "error_decoding_ocs"),
        (b"[]", "application/json", None, "error_decoding_ocs"),
        (b"{}", "application/json", "incomplete OCS response", "error_incomplete_ocs"),
        (b'{"ocs":{}}', "application/json", "incomplete OCS response", "error_incomplete_ocs"),
        (b'{"ocs":{"data":null}}', "application/json", "incomplete OCS response", "error_incomplete_ocs"),
        (
            b'{"ocs":{"meta":{"status":"failure","statuscode":429,"message":""},"data":[]}}',
            "application/json",
            "throttled OCS response",
            "throttled",
        ),
        (b'{"ocs":{"data":[]}}', "application/json", None, "error_decoding_ocs_data"),
        (b'{"ocs":{"data":{"type":"room","room":[]}}}', "application/json", None, "error_decoding_ocs_data"),
        (b'{"ocs":{"data":{"type":"auth","auth":[]}}}', "application/json", None, "error_decoding_ocs_data"),
        (b'{"ocs":{"data":{"type":7}}}', "application/json", None, "error_decoding_ocs_data"),
        (b'{"ocs":{"data":{"room":' + b"[" * 100_000, "application/json", None, "error_decoding_ocs"),
        (b" " * (MAX_BODY + 1), "application/json", "the backend's answer is too large", "error_reading_body"),
    ],
)
async def test_unusable_answer_is_an_error(
    client: NextcloudClient,
    cloud: FakeNextcloud,
    counters: Counters,
    body: bytes,
    content_type: str,
    text: str | None,
    error: str,
) -> None:
    cloud.hook = hook_for("room", lambda: web.Response(body=body, content_type=content_type))
    message = await failure(client, cloud)
    assert text is None or message == text
    assert counters.backend_errors == {("cloud", error): 1}
    assert counters.backend_requests["cloud"] == 1
    cloud.hook = None
    assert (await join(client, cloud)).type == "room"


# reference 3.7-f
async def test_answer_of_exactly_the_limit_is_read(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    body = b'{"ocs":{"data":{"type":"x"}}}'.ljust(MAX_BODY)
    cloud.hook = hook_for("room", lambda: web.Response(body=body, content_type="application/json"))
    assert (await join(client, cloud)).type == "x"


async def test_decompressed_size_is_limited(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    def bomb() -> web.Response:
        response = web.Response(body=b" " * 10_000_000, content_type="application/json")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    cloud.hook = hook_for("room", bomb)
    assert await failure(client, cloud) == "the backend's answer is too large"


async def test_unreachable_backend_is_an_error(clock: ManualClock, client: NextcloudClient, counters: Counters) -> None:
    async with FakeNextcloud() as cloud:
        pass
    await failure(client, cloud)
    assert counters.backend_errors == {("cloud", "unknown"): 1}
    with pytest.raises(NextcloudError, match="could not be reached"):
        await client.token_key(cloud.url)


@pytest.mark.parametrize("url", ["http://[::1/", "http://" + "a" * 300 + "/", "http://..../"])
async def test_invalid_url_is_an_error(client: NextcloudClient, cloud: FakeNextcloud, url: str) -> None:
    with pytest.raises(NextcloudError):
        await client.ask(cloud.backend(), url, JOIN)


async def test_missing_answer_is_a_timeout(cloud: FakeNextcloud, counters: Counters) -> None:
    async with NextcloudClient(
        "test/1.0", FEATURES, clock=ManualClock(1000.0), counters=counters, timeout=0.3
    ) as client:
        await join(client, cloud)
        cloud.gate = asyncio.Event()
        assert await failure(client, cloud) == "the backend did not answer in time"
        assert counters.backend_errors == {("cloud", "timeout"): 1}
        cloud.gate.set()
        assert (await join(client, cloud)).type == "room"


async def test_missing_capabilities_are_a_timeout(cloud: FakeNextcloud) -> None:
    async with NextcloudClient("test/1.0", FEATURES, clock=ManualClock(1000.0), timeout=0.3) as client:
        cloud.gate = asyncio.Event()
        assert await failure(client, cloud) == "the backend did not answer in time"
        cloud.gate.set()


async def test_concurrent_requests_to_a_host_are_limited(cloud: FakeNextcloud) -> None:
    async with NextcloudClient("test/1.0", FEATURES, clock=ManualClock(1000.0), connections_per_host=3) as client:
        await join(client, cloud)
        cloud.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(7):
                group.create_task(join(client, cloud))
            await cloud.wait_for(lambda seen: seen.type == "room", count=1 + 3)
            for _ in range(20):  # loop iterations in which a fourth request could arrive
                await asyncio.sleep(0)
            assert len(cloud.requests_of("room")) == 1 + 3
            cloud.gate.set()
        assert len(cloud.requests_of("room")) == 1 + 7


# reference 3.7-e
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["backend", "/x", "https://127.0.0.1/x", "http://[", ""])
async def test_redirects_are_not_followed(
    client: NextcloudClient, cloud: FakeNextcloud, status: int, location: str
) -> None:
    body = b'{"ocs":{"data":{"type":"room","room":{}}}}'
    headers = {"Location": location, "Content-Type": "application/json"}
    cloud.hook = hook_for("room", lambda: web.Response(status=status, headers=headers, body=body))
    assert await failure(client, cloud) == "the backend redirects, configure its final URL"
    assert len(cloud.requests_of("room")) == 1


# --- log records for the operator


@pytest.mark.parametrize(
    ("location", "base"),
    [
        ("https://cloud.example.com/ocs/v2.php/apps/spreed/x", "https://cloud.example.com/"),
        ("/folder/ocs/v2.php/apps/spreed/x", "CLOUDfolder/"),
        ("//h.example/ocs/v2.php/apps/spreed/x", "http://h.example/"),
    ],
)
async def test_target_of_a_redirect_is_logged_and_not_sent_to_clients(
    client: NextcloudClient, cloud: FakeNextcloud, location: str, base: str
) -> None:
    cloud.hook = hook_for("room", lambda: web.Response(status=301, headers={"Location": location}))
    with captured_lines(logging.WARNING) as lines:
        assert await failure(client, cloud) == "the backend redirects, configure its final URL"
    (line,) = lines
    assert f"the backend redirects to {base.replace('CLOUD', cloud.url)}: put that URL into backend.urls" in line


# reference 3.7-g
@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        ({"status": 503, "text": "{}", "content_type": "application/json"}, "status 503"),
        ({"status": 503, "text": "maintenance", "content_type": "text/html"}, "status 503"),
        ({"status": 404, "text": "<html>", "content_type": "text/html"}, "status 404"),
        ({"status": 403, "text": "<html>", "content_type": "text/html"}, "status 403"),
        ({"status": 200, "text": "<html>", "content_type": "text/html"}, "status 200"),
        ({"status": 200, "text": '{"ocs":{"meta":{"statuscode":429},"data":[]}}'}, "throttled"),
        ({"status": 403, "text": '{"ocs":{"data":{"type":"error","error":{"code":"forbidden"}}}}'}, "status 403"),
        ({"status": 200, "text": '{"ocs":{"data":{"type":"error","error":{"code":"invalid_request"}}}}'}, "request"),
    ],
)
async def test_failed_request_is_logged_once_a_minute(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, answer: dict[str, Any], logged: str
) -> None:
    given = {"content_type": "application/json"} | answer
    cloud.hook = hook_for("room", lambda: web.Response(**given))
    with captured_lines(logging.WARNING) as lines:
        for _ in range(20):
            with contextlib.suppress(NextcloudError):
                await client.ask(cloud.backend("our-cloud"), cloud.url, JOIN)
        assert len(lines) == 1
        assert all(part in lines[0] for part in (logged, "our-cloud", cloud.url, "room")), lines[0]
        clock.now += 60
        with contextlib.suppress(NextcloudError):
            await client.ask(cloud.backend("our-cloud"), cloud.url, JOIN)
    assert len(lines) == 2
    assert "19 more" in lines[1]


async def test_backend_that_refuses_a_signature_is_reported_until_it_accepts_one_or_its_secret_is_changed(
    client: NextcloudClient, cloud: FakeNextcloud
) -> None:
    right = cloud.backend()
    wrong = Backend(right.id, right.urls, "another secret")
    assert client.problem(wrong) is None
    with captured_lines(logging.WARNING) as lines:
        assert (await client.ask(wrong, cloud.url, JOIN)).type == "error"
    (line,) = lines
    assert all(part in line for part in (right.id, cloud.url, "invalid_request", "shared secret in Nextcloud"))
    problem = client.problem(wrong)
    assert problem is not None
    assert problem.answered
    assert "shared secret in Nextcloud" in problem.reason
    assert "another secret" not in line + problem.reason
    assert client.problem(right) is None
    await join(client, cloud)
    assert client.problem(wrong) is None


async def test_backend_without_an_answer_is_reported_as_not_reached(
    client: NextcloudClient, cloud: FakeNextcloud
) -> None:
    await cloud.close()
    await failure(client, cloud)
    problem = client.problem(cloud.backend())
    assert problem is not None
    assert not problem.answered


async def test_unreachable_backend_is_logged(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    await cloud.close()
    with captured_lines(logging.WARNING) as lines:
        for _ in range(3):
            with pytest.raises(NextcloudError):
                await client.ask(cloud.backend("our-cloud"), cloud.url, PingRequest("r", ()))
    (line,) = [line for line in lines if "type ping" in line]
    assert "our-cloud" in line


async def test_reason_for_which_a_backend_is_not_reached_is_logged_and_not_sent_to_clients(
    client: NextcloudClient, cloud: FakeNextcloud, tmp_path: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*make_certificate(tmp_path))
    secure = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    urls = {
        f"https://127.0.0.1:{secure.sockets[0].getsockname()[1]}/": "its certificate is not valid here",
        cloud.url.replace("http:", "https:"): "TLS failed, as towards a port without TLS",
        f"http://127.0.0.1:{free_ports(1)[0]}/": "connection refused",
    }
    async with secure:
        for url, reason in urls.items():
            with captured_lines(logging.WARNING) as lines, pytest.raises(NextcloudError) as caught:
                await client.ask(Backend("cloud", (url,), "secret"), url, JOIN)
            assert str(caught.value) == "the backend could not be reached"
            assert [f"({reason}" in line for line in lines] == [True, True], lines  # the capabilities, and the join


async def test_each_cause_of_failure_is_logged_once(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    with captured_lines(logging.WARNING) as lines:
        for status in (503, 404, 503):
            cloud.hook = hook_for("room", partial(web.Response, status=status))
            await failure(client, cloud)
    assert [re.findall(r"status \d+", line) for line in lines] == [["status 503"], ["status 404"]]


async def test_long_error_code_is_not_logged_as_a_whole(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    body = '{"ocs":{"data":{"type":"error","error":{"code":"%s"}}}}' % ("x" * 500_000)
    cloud.hook = hook_for("room", lambda: web.Response(status=400, text=body, content_type="application/json"))
    with captured_lines(logging.WARNING) as lines:
        assert (await join(client, cloud)).type == "error"
    assert [len(line) < 1000 for line in lines] == [True]


@pytest.mark.parametrize(
    ("request_", "part"),
    [(AuthRequest(Raw(b"{}")), "at which they log in"), (JOIN, "the Nextcloud that has these rooms")],
)
async def test_refusal_of_a_client_by_nextcloud_is_one_warning_and_no_failure_of_the_backend(
    client: NextcloudClient, cloud: FakeNextcloud, request_: AuthRequest | RoomRequest, part: str
) -> None:
    refusal = {"type": "error", "error": {"code": "no_such_thing", "message": "m"}}
    cloud.hook = lambda seen: None if seen.type == "capabilities" else refusal
    with captured_lines(logging.INFO) as lines:
        for _ in range(3):
            assert (await client.ask(cloud.backend(), cloud.url, request_)).type == "error"
    (line,) = lines
    assert f"to backend {cloud.backend().id} at {cloud.url} ended with HTTP status 200: error no_such_thing" in line
    assert part in line
    assert client.problem(cloud.backend()) is None


async def test_refused_leave_is_not_logged(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    cloud.hook = lambda seen: (
        None if seen.type == "capabilities" else {"type": "error", "error": {"code": "no_such_room", "message": "m"}}
    )
    with captured_lines(logging.INFO) as lines:
        await client.ask(cloud.backend(), cloud.url, structs.replace(JOIN, action="leave"))
    assert lines == []


async def test_warnings_are_passed_on_with_their_time(cloud: FakeNextcloud) -> None:
    passed: list[tuple[float, str]] = []
    clock = ManualClock(1000.0)
    cloud.hook = lambda seen: web.Response(status=500)
    async with NextcloudClient("test/1.0", FEATURES, clock=clock, on_warning=lambda *it: passed.append(it)) as client:
        await failure(client, cloud)
    assert [at for at, _ in passed] == [1000.0, 1000.0]
    assert ["capabilities" in line for _, line in passed] == [True, False]


# reference 3.7-f
async def test_cookies_are_not_sent_back(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    body = b'{"ocs":{"data":{"type":"x"}}}'
    cookie = {"Set-Cookie": "session=alice; Path=/"}
    cloud.hook = hook_for("room", lambda: web.Response(body=body, content_type="application/json", headers=cookie))
    await join(client, cloud)
    await join(client, cloud)
    assert "Cookie" not in cloud.requests_of("room")[1].headers


async def test_incomplete_answer_is_an_error(client: NextcloudClient, counters: Counters) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, FakeNextcloud() as cloud:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(NextcloudError, match="broke off"):
            await client.ask(cloud.backend(), url, JOIN)
    assert counters.backend_errors == {("cloud", "error_reading_body"): 1}


@pytest.mark.parametrize("disconnects", [1, 2])
async def test_request_on_a_closed_idle_connection_is_repeated_once(client: NextcloudClient, disconnects: int) -> None:
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        while await reader.readuntil(b"\r\n\r\n"):
            served += 1
            if 1 < served <= 1 + disconnects:  # the first request is for the capabilities
                break
            body = b'{"ocs":{"data":{"type":"x"}}}'
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, FakeNextcloud() as cloud:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if disconnects == 1:
            assert (await client.ask(cloud.backend(), url, JOIN)).type == "x"
        else:
            with pytest.raises(NextcloudError):
                await client.ask(cloud.backend(), url, JOIN)
        assert served == 1 + 2
        await client.close()


async def test_cancelled_request_leaves_the_client_usable(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    cloud.gate = asyncio.Event()
    task = asyncio.create_task(join(client, cloud))
    await cloud.wait_for(lambda seen: True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cloud.gate.set()
    assert (await join(client, cloud)).type == "room"


async def test_close_cancels_fetches_and_is_idempotent(cloud: FakeNextcloud) -> None:
    client = NextcloudClient("test/1.0", FEATURES, clock=ManualClock(1000.0))
    cloud.gate = asyncio.Event()
    task = asyncio.create_task(client.token_key(cloud.url))
    await cloud.wait_for(lambda seen: True)
    await client.close()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    cloud.gate.set()


async def test_feature_is_looked_up_in_the_capabilities() -> None:
    async with FakeNextcloud() as fake, NextcloudClient("test", (), clock=ManualClock(1000.0)) as client:
        fake.features.append("federation-v2")
        assert await client.supports(fake.url, "federation-v2")
        assert not await client.supports(fake.url, "something else")


async def test_open_connections_are_counted_by_host() -> None:
    async with FakeNextcloud() as cloud, NextcloudClient("test/1.0", FEATURES, clock=ManualClock(1000.0)) as client:
        assert client.connections() == {}
        await join(client, cloud)
        host = cloud.url.removeprefix("http://").partition("/")[0]
        assert client.connections() == {host: 1}  # kept for the next request
        cloud.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(join(client, cloud))
            await cloud.wait_for(lambda seen: seen.type == "room", 4)
            assert client.connections() == {host: 3}
            cloud.gate.set()
        await client.close()
        assert client.connections() == {}
