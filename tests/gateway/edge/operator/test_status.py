"""The read-only endpoints: welcome, statistics, metrics, health (reference 1.3, 14.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.edge.http.address import Networks, TrustedProxies
from gateway.edge.operator.readiness import Dependency, DependencyState, Readiness
from gateway.edge.operator.status import Status
from gateway.flows.refusals import Refusals
from gateway.metrics import Counters, Gauges, Metrics
from tests.captured_log import captured_lines
from tests.gateway.edge.serving import exchange, served_routes
from tests.gateway.manual_clock import ManualClock


class StatusSource:
    """State of a gateway, as its endpoints show it."""

    def __init__(self) -> None:
        self.stats: dict[str, Any] = {"rooms": 1, "sessions": 2}
        self.readiness = Readiness(serving=True, dependencies=(Dependency("sfu"),))
        self.refusals = Refusals(ManualClock(), Counters())

    def status(self, *allowed: str, proxies: tuple[str, ...] = ("127.0.0.1",)) -> Status:
        return Status(
            "1.2.3",
            TrustedProxies(proxies),
            Networks(allowed),
            self.refusals,
            stats=lambda: self.stats,
            metrics=Metrics(Counters(), Gauges()).render,
            readiness=lambda: self.readiness,
            server_info=lambda: {"version": "1.2.3"},
        )


async def get(status: Status, path: str, real_ip: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    async with served_routes(status.routes()) as address:
        return await exchange(address, f"GET {path} HTTP/1.1\r\nHost: h\r\nX-Real-IP: {real_ip}\r\n\r\n".encode())


# reference 1.3-a
async def test_welcome_names_the_version() -> None:
    code, headers, body = await get(StatusSource().status(), "/api/v1/welcome", "192.0.2.1")
    assert code == 200
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert body == b'{"nextcloud-spreed-signaling":"Welcome","version":"1.2.3"}\n'


# reference 1.3-b
async def test_stats_are_current_values_as_indented_json() -> None:
    source = StatusSource()
    status = source.status("127.0.0.1")
    source.stats["mcu"] = {"connected": False}
    code, headers, body = await get(status, "/api/v1/stats")
    assert code == 200
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert b'\n  "sessions": 2' in body
    assert json.loads(body) == {"rooms": 1, "sessions": 2, "mcu": {"connected": False}}


async def test_metrics_are_prometheus_text() -> None:
    code, headers, body = await get(StatusSource().status("127.0.0.1"), "/metrics")
    assert code == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"\nsignaling_client_messages_total{direction=" in body


# reference 14.4-a
@pytest.mark.parametrize("path", ["/api/v1/stats", "/metrics"])
async def test_statistics_are_only_for_allowed_addresses(path: str) -> None:
    source = StatusSource()
    status = source.status("192.0.2.0/24")
    assert (await get(status, path, "192.0.2.9"))[0] == 200
    with captured_lines() as lines:
        for _ in range(2):
            code, headers, body = await get(status, path, "198.51.100.1")
    (line,) = lines
    assert f"requests for {path} are refused: their address is not in stats.allowed" in line
    assert "198.51" not in line
    assert [text in line for _, text in source.refusals.recent] == [True]
    assert (code, body) == (403, b"Authentication check failed\n")
    assert headers["content-type"].startswith("text/plain")


NOT_SERVING = Readiness(
    serving=False, dependencies=(Dependency("sfu", DependencyState.AWAY, "connection refused", "ws://a"),)
)


async def test_health_does_not_depend_on_readiness() -> None:
    source = StatusSource()
    source.readiness = NOT_SERVING
    assert (await get(source.status(), "/healthz"))[0] == 200


# reference 14.4-a
async def test_dependencies_are_only_for_allowed_addresses() -> None:
    source = StatusSource()
    status = source.status("127.0.0.1")
    code, headers, body = await get(status, "/readyz")
    assert (code, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body) == {"state": "ok", "dependencies": [{"name": "sfu", "state": "ok"}]}
    source.readiness = NOT_SERVING
    code, _, body = await get(status, "/readyz")
    sfu = {"name": "sfu", "url": "ws://a", "state": "away", "reason": "connection refused"}
    assert (code, json.loads(body)) == (503, {"state": "away", "dependencies": [sfu]})
    code, _, body = await get(status, "/readyz", "192.0.2.1")
    assert (code, json.loads(body)) == (503, {"state": "away"})


# reference 14.4-a
@pytest.mark.parametrize("header", ["X-Real-IP: 127.0.0.1", "X-Forwarded-For: 192.0.2.1", "Via: 1.1 proxy"])
@pytest.mark.parametrize("path", ["/api/v1/stats", "/api/v1/serverinfo", "/metrics"])
async def test_statistics_are_not_open_to_the_clients_of_a_local_proxy_that_is_not_trusted(
    path: str, header: str
) -> None:
    status = StatusSource().status("127.0.0.1", proxies=("192.0.2.9",))
    async with served_routes(status.routes()) as address:
        request = f"GET {path} HTTP/1.1\r\nHost: h\r\n"
        assert (await exchange(address, f"{request}\r\n".encode()))[0] == 200
        with captured_lines() as lines:
            assert (await exchange(address, f"{request}{header}\r\n\r\n".encode()))[0] == 403
        assert ["a proxy that is not in http.trusted_proxies" in line for line in lines] == [True]


async def test_routes_can_have_a_prefix() -> None:
    async with served_routes(StatusSource().status().routes("/standalone-signaling")) as address:
        request = b"%s /standalone-signaling/api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n"
        assert (await exchange(address, request % b"GET"))[0] == 200
        assert (await exchange(address, request % b"POST"))[0] == 405


async def test_server_info_is_only_for_allowed_addresses() -> None:
    status = StatusSource().status("127.0.0.1")
    code, headers, body = await get(status, "/api/v1/serverinfo")
    assert (code, headers["x-content-type-options"]) == (200, "nosniff")
    assert body == b'{\n  "version": "1.2.3"\n}'
    assert (await get(status, "/api/v1/serverinfo", "192.0.2.1"))[0] == 403
