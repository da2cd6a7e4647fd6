"""The HTTP routes below both prefixes, and the name and features that each endpoint announces (1.2, 1.3, 13.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.app import PATH_PREFIXES, Gateway
from gateway.config import AdminSection, Config, InternalSection, McuSection, SessionsSection, TurnSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from gateway.version import SERVER_HEADER, SERVER_VERSION
from mcu.inprocess.settings import InprocessSettings
from tests.gateway.edge.serving import exchange
from tests.gateway.flows.harness import INTERNAL_SECRET, internal_params
from tests.gateway.running import running_gateway

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
HEADER = "X-Spreed-Signaling-Features"
ROUTES = (
    ("GET", "/spreed", 400),  # no upgrade
    ("POST", "/spreed/poll", 200),
    ("OPTIONS", "/spreed/poll", 204),
    ("POST", "/api/v1/room/r", 400),  # no content type
    ("GET", "/api/v1/welcome", 200),
    ("GET", "/api/v1/stats", 200),
    ("GET", "/api/v1/serverinfo", 200),
    ("GET", "/metrics", 200),
    ("GET", "/turn/credentials", 400),  # no key
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/admin", 200),  # after a redirect
    ("GET", "/admin/", 200),
    ("GET", "/admin/admin.js", 200),
    ("GET", "/admin/api/login", 200),
    ("POST", "/admin/api/login", 415),  # no JSON
    ("DELETE", "/admin/api/login", 401),
    ("POST", "/admin/api/doctor", 401),
    ("GET", "/admin/api/snapshot", 401),
    ("GET", "/admin/api/explain", 401),
    ("GET", "/admin/api/timeline", 401),
    ("GET", "/admin/api/drain", 401),
    ("POST", "/admin/api/drain", 401),
    ("DELETE", "/admin/api/drain", 401),
)
# aiohttp adds HEAD to GET.
HEAD_OF_FILES = {("HEAD", prefix + path) for path in ("/admin", "/admin/", "/admin/{name}") for prefix in PATH_PREFIXES}
# The features of reference 13.1 with Portunus' own.
REGULAR_FEATURES = {
    *("audio-video-permissions", "changed-users", "chat-relay", "dialout", "hello-v2", "incall-all", "join-features"),
    *("recipient-call", "serverinfo", "switchto", "transient-data", "transient-sessiondata", "welcome"),
    *("ack", "federation"),
}
WITH_AN_SFU = {"mcu", "offer-codecs", "update-sdp"}


@dataclass
class GatewayAndCloud:
    """A gateway and its Nextcloud."""

    url: str
    cloud: FakeNextcloud


@pytest.fixture(params=["none", "inprocess"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[GatewayAndCloud]:
    sfu = McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1"))
    async with FakeNextcloud() as cloud:
        sections = {
            "internal": InternalSection(secret=INTERNAL_SECRET),
            "admin": AdminSection(secret="5a0f1d7c3b9e8642"),
            "turn": TurnSection(api_key="key", secret="secret", servers=("turn:turn.example",)),
            "mcu": McuSection() if request.param == "none" else sfu,
        }
        async with running_gateway(cloud, **sections) as (_, url):
            yield GatewayAndCloud(url, cloud)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def split_features(listed: str) -> list[str]:
    return listed.split(", ")


def without_optional_features(features: list[str]) -> set[str]:
    """Return the features that do not depend on the SFU; other tests check the rest."""
    return set(features) - {"republish", "simulcast"}


# reference 1.2-a
async def test_each_route_is_served_below_both_prefixes(served: GatewayAndCloud, http: aiohttp.ClientSession) -> None:
    for prefix in PATH_PREFIXES:
        for method, path, status in ROUTES:
            async with http.request(method, served.url + prefix + path) as response:
                assert (path, response.status) == (path, status)
        async with http.ws_connect(served.url + prefix + "/spreed") as client:
            assert (await client.receive_json())["type"] == "welcome"


async def test_each_registered_route_is_tested() -> None:
    gateway = Gateway(Config(sessions=SessionsSection(secret=SECRET)))
    found = {
        (route.method, route.resource.canonical) for route in gateway.application().router.routes() if route.resource
    }
    variable = {"/api/v1/room/r": "/api/v1/room/{roomid}", "/admin/admin.js": "/admin/{name}"}
    listed = {(method, variable.get(path, path)) for method, path, _ in ROUTES}
    assert found - HEAD_OF_FILES == {(method, prefix + path) for method, path in listed for prefix in PATH_PREFIXES}


# reference 1.2-a
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/spreed"),
        ("HEAD", "/spreed"),
        ("GET", "/api/v1/room/r"),
        ("PUT", "/api/v1/room/r"),
        ("POST", "/api/v1/welcome"),
        ("HEAD", "/api/v1/welcome"),
        ("POST", "/api/v1/stats"),
        ("DELETE", "/api/v1/serverinfo"),
        ("POST", "/metrics"),
        ("POST", "/turn/credentials"),
        ("GET", "/spreed/poll"),
    ],
)
async def test_wrong_method_is_405(
    served: GatewayAndCloud, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with http.request(method, served.url + path) as response:
        assert response.status == 405


# reference 1.2-a
@pytest.mark.parametrize(
    "path", ["/", "/spreed/", "/api/v1/room/", "/api/v1/room/a/b", "/api/vi/room/a", "/debug/pprof/"]
)
async def test_unknown_path_is_404(served: GatewayAndCloud, http: aiohttp.ClientSession, path: str) -> None:
    async with http.post(served.url + path) as response:
        assert response.status == 404


# reference 1.2-b
async def test_each_response_names_the_server_and_its_features(
    served: GatewayAndCloud, http: aiohttp.ClientSession
) -> None:
    async with http.get(served.url + "/api/v1/serverinfo") as response:
        features = (await response.json())["features"]
    for method, path in [
        *((method, path) for method, path, _ in ROUTES),
        ("GET", "/nowhere"),
        ("PUT", "/spreed"),
        ("GET", "/standalone-signaling/api/v1/welcome"),
    ]:
        async with http.request(method, served.url + path) as response:
            assert (path, response.headers["Server"]) == (path, SERVER_HEADER)
            assert split_features(response.headers[HEADER]) == features
    async with http.ws_connect(served.url + "/spreed") as client:
        assert client._response.headers["Server"] == SERVER_HEADER
        assert split_features(client._response.headers[HEADER]) == features
    parts = urlsplit(served.url)
    _, headers, _ = await exchange((parts.hostname or "", parts.port or 0), b"junk\r\n\r\n")
    assert headers["server"] == SERVER_HEADER
    assert split_features(headers[HEADER.lower()]) == features


# reference 13.1-a
async def test_each_endpoint_announces_its_features_and_the_version(
    served: GatewayAndCloud, http: aiohttp.ClientSession
) -> None:
    async with http.get(served.url + "/api/v1/serverinfo") as response:
        regular = await response.json()
    features = regular["features"]
    has_mcu = "mcu" in features
    assert features == sorted(features)
    assert without_optional_features(features) == REGULAR_FEATURES | (WITH_AN_SFU if has_mcu else set())
    assert regular["version"] == SERVER_VERSION
    async with (
        TalkClient(served.url, served.cloud.url) as alice,
        TalkClient(served.url, served.cloud.url) as bridge,
    ):
        welcome = {"version": SERVER_VERSION, "features": sorted([*features, "virtual-sessions"])}
        assert alice.messages[0]["welcome"] == welcome
        reply = (await alice.hello(served.cloud.ticket("alice")))["hello"]["server"]
        assert reply == {"version": SERVER_VERSION, "features": features}
        internal: dict[str, Any] = (await bridge.hello_internal(internal_params(served.cloud.url)))["hello"]["server"]
        expected = {*features, "virtual-sessions"} - {"audio-video-permissions"}
        assert internal == {"version": SERVER_VERSION, "features": sorted(expected)}
        await alice.join("r", nextcloud_session("alice"))
    for request in served.cloud.requests:
        assert request.headers["User-Agent"] == SERVER_HEADER
        if request.type != "capabilities":
            assert split_features(request.headers[HEADER]) == features
    async with http.get(served.url + "/api/v1/welcome") as response:
        assert await response.text() == f'{{"nextcloud-spreed-signaling":"Welcome","version":"{SERVER_VERSION}"}}\n'
