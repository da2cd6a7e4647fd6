"""The name and version that the gateway announces, at each place."""

from __future__ import annotations

import re

import aiohttp

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.version import PROTOCOL_LEVEL, VERSION

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
LEVEL = f"{PROTOCOL_LEVEL}-portunus.{VERSION}"
NAME = f"nextcloud-spreed-signaling/{LEVEL} portunus/{VERSION}"


async def test_version_and_name_are_the_same_everywhere() -> None:
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        config = Config(
            sessions=SessionsSection(secret=SECRET),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        try:
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
        finally:
            await gateway.stop()


def test_protocol_version_satisfies_clients_that_compare_versions() -> None:
    assert re.fullmatch(r"2\.1\.1-portunus\.\d+\.\d+\.\d+\S*", LEVEL)
