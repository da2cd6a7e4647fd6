"""The name and version that the gateway announces, at each place."""

from __future__ import annotations

import re

import aiohttp

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.version import PROTOCOL_LEVEL, VERSION
from tests.gateway.running import running_gateway

LEVEL = f"{PROTOCOL_LEVEL}-portunus.{VERSION}"
NAME = f"nextcloud-spreed-signaling/{LEVEL} portunus/{VERSION}"


async def test_each_announcement_has_the_same_version_and_name() -> None:
    async with FakeNextcloud() as nextcloud, running_gateway(nextcloud) as (_, url):
        async with aiohttp.ClientSession() as http, TalkClient(url, nextcloud.url) as client:
            hello = await client.hello(nextcloud.ticket("alice"))
            assert client.messages[0]["welcome"]["version"] == LEVEL
            assert hello["hello"]["server"]["version"] == LEVEL
            for path, key in (("welcome", "version"), ("serverinfo", "version")):
                async with http.get(f"{url}/api/v1/{path}") as response:
                    assert (await response.json())[key] == LEVEL
                    assert response.headers["Server"] == NAME
            async with http.get(f"{url}/api/v1/welcome") as response:
                assert (await response.json())["nextcloud-spreed-signaling"] == "Welcome"
            async with http.ws_connect(f"{url}/spreed") as socket:
                assert socket._response.headers["Server"] == NAME
        agents = {request.headers["User-Agent"] for request in nextcloud.requests}
        assert agents == {NAME}


def test_protocol_version_satisfies_clients_that_compare_versions() -> None:
    assert re.fullmatch(r"2\.1\.1-portunus\.\d+\.\d+\.\d+\S*", LEVEL)
