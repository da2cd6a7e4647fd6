"""The SFU's counters and fault injection over HTTP, with a real SFU and a real call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.edge.operator.media_controls import MAX_BODY, MediaControlsApi, MediaTestControls
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from tests.gateway.edge.serving import exchange, served_routes
from tests.mcu.contract.clients import sender, viewer
from tests.media.loopback import loopback

__all__ = ["loopback"]

STREAMS = "/test/streams"
ALICE = f"{STREAMS}/alice/video"


class ControlledSfu:
    """In-process SFU, and its test controls over HTTP."""

    def __init__(self, mcu: InprocessMcu, address: tuple[str, int]) -> None:
        self.mcu = mcu
        self._address = address

    async def request(self, method: str, path: str, body: str = "", *headers: str) -> tuple[int, Any]:
        """Send a request and return the status and the decoded body."""
        lines = [f"{method} {path} HTTP/1.1"]
        if not any(header.startswith("Host:") for header in headers):
            lines.append("Host: 127.0.0.1:8080")
        if method == "POST" and not any(header.startswith("Transfer-Encoding:") for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        text = "\r\n".join([*lines, *headers, "", body])
        status, received, document = await exchange(self._address, text.encode())
        assert received["content-type"].startswith("application/json")
        return status, json.loads(document)

    async def stream(self) -> dict[str, Any]:
        """Return the counters of the only stream."""
        status, document = await self.request("GET", STREAMS)
        assert status == 200
        (stream,) = document["streams"]
        found: dict[str, Any] = stream
        return found


@pytest.fixture
async def controlled_sfu(loopback: None) -> AsyncIterator[ControlledSfu]:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    assert isinstance(mcu, MediaTestControls)
    await mcu.start(lambda status: None)
    async with served_routes(MediaControlsApi(mcu).routes()) as address:
        yield ControlledSfu(mcu, address)
    await mcu.stop()


async def test_streams_are_counted_impaired_silenced_and_revived(controlled_sfu: ControlledSfu) -> None:
    async with sender(31) as alice, viewer() as carol:
        await alice.publish(controlled_sfu.mcu)
        await carol.subscribe(controlled_sfu.mcu)
        await carol.peer.wait_for_picture(31)
        impairment = {"delay": 0.02, "jitter": 0.01, "seed": 7, "leg": "subscribers"}
        assert await controlled_sfu.request("POST", f"{ALICE}/impair", json.dumps(impairment)) == (200, {})
        stream = await controlled_sfu.stream()
        assert (stream["backend"], stream["publisher"], stream["type"]) == ("cloud", "alice", "video")
        assert (stream["connected"], stream["silent"]) == (True, False)
        assert stream["impairments"] == {"subscribers": {"loss": 0.0, "delay": 0.02, "jitter": 0.01, "seed": 7}}
        (layer,) = next(section for section in stream["media"] if section["kind"] == "video")["layers"]
        assert layer.keys() == {
            "substream",
            "rid",
            "packets",
            "bytes",
            "lost",
            "repaired",
            "keyframe_requests",
        }
        assert layer["packets"] > 0
        (subscriber,) = stream["subscribers"]
        assert subscriber["connected"]
        assert {section["kind"] for section in subscriber["media"]} == {"audio", "video"}
        await carol.peer.wait_for_picture(31)
        assert await controlled_sfu.request("POST", f"{ALICE}/impair", '{"leg": "subscribers"}') == (200, {})
        assert (await controlled_sfu.stream())["impairments"] == {}
        assert await controlled_sfu.request("POST", f"{ALICE}/impair", '{"loss": 0.01}') == (200, {})
        assert (await controlled_sfu.stream())["impairments"].keys() == {"publisher"}
        assert await controlled_sfu.request("POST", f"{ALICE}/impair", "") == (200, {})
        assert (await controlled_sfu.stream())["impairments"] == {}
        assert await controlled_sfu.request("POST", f"{ALICE}/silence") == (200, {})
        assert (await controlled_sfu.stream())["silent"]
        assert await controlled_sfu.request("POST", f"{ALICE}/revive") == (200, {})
        await carol.peer.wait_for_picture(31)


@pytest.mark.parametrize("verb", ["impair", "silence", "revive"])
@pytest.mark.parametrize("stream", ["nobody/video", "alice/screen", "alice/nothing"])
async def test_unpublished_stream_is_not_found(controlled_sfu: ControlledSfu, verb: str, stream: str) -> None:
    status, document = await controlled_sfu.request("POST", f"{STREAMS}/{stream}/{verb}", "{}")
    assert (status, document["error"]["code"]) == (404, "no_such_stream")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "nothing",
        '{"loss": 2}',
        '{"loss": -0.1}',
        '{"delay": "1"}',
        '{"delay": 11}',
        '{"jitter": NaN}',
        '{"leg": "both"}',
        '{"los": 0.1}',
        '{"seed": 1.5}',
    ],
)
async def test_invalid_impairment_is_refused(controlled_sfu: ControlledSfu, body: str) -> None:
    status, document = await controlled_sfu.request("POST", f"{ALICE}/impair", body)
    assert (status, document["error"]["code"]) == (400, "invalid")


async def test_too_long_or_chunked_body_is_refused(controlled_sfu: ControlledSfu) -> None:
    status, document = await controlled_sfu.request("POST", f"{ALICE}/impair", "{" + " " * MAX_BODY + "}")
    assert (status, document["error"]["code"]) == (413, "too_large")
    status, document = await controlled_sfu.request(
        "POST", f"{ALICE}/impair", "0\r\n\r\n", "Transfer-Encoding: chunked"
    )
    assert (status, document["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "header",
    [
        "X-Real-IP: 192.0.2.1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 127.0.0.1, 192.0.2.1",
        "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
        "X-Forwarded-For: somebody",
        "Forwarded: for=127.0.0.1",
        "Origin: https://elsewhere.example",
        "Origin: null",
        "Origin: http://[",
        "Origin: http://[somewhere]",
        "Host: [::1",
        "Host: [somewhere]",
        "Host: rebound.example",
        "Host: 192.0.2.1:8080",
    ],
)
async def test_request_of_another_host_or_origin_is_refused(controlled_sfu: ControlledSfu, header: str) -> None:
    for method, path in (("GET", STREAMS), ("POST", f"{ALICE}/silence")):
        status, document = await controlled_sfu.request(method, path, "", header)
        assert (status, document["error"]["code"]) == (403, "not_local")


@pytest.mark.parametrize(
    "header", ["Host: localhost:8080", "Host: [::1]:8080", "X-Real-IP: 127.0.0.1", "Origin: http://localhost:3000"]
)
async def test_request_of_this_machine_is_accepted(controlled_sfu: ControlledSfu, header: str) -> None:
    assert await controlled_sfu.request("GET", STREAMS, "", header) == (200, {"streams": []})


@pytest.mark.parametrize(("enabled", "status"), [(True, 200), (False, 404)])
async def test_controls_are_served_only_if_configured(enabled: bool, status: int, tmp_path: Path) -> None:
    config = Config(
        sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
        http=HttpSection(listen=("127.0.0.1:0", str(tmp_path / "socket"))),
        mcu=McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1", test_controls=enabled)),
    )
    gateway = Gateway(config)
    tcp, unix = await gateway.start()
    try:
        for connector, url in (
            (None, tcp),
            (aiohttp.UnixConnector(unix.removeprefix("unix:")), "http://localhost"),
        ):
            async with aiohttp.ClientSession(connector=connector) as http, http.get(url + STREAMS) as response:
                assert response.status == status
    finally:
        await gateway.stop()
