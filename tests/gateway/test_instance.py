"""How a gateway is named on an SFU that others use as well."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

SECRET = "9f2b6c1d" * 8


def config(secret: str = SECRET, *listen: str, instance: str = "") -> Config:
    return Config(
        sessions=SessionsSection(secret=secret),
        http=HttpSection(listen=listen or ("127.0.0.1:8080",)),
        mcu=McuSection(instance=instance),
    )


def test_it_is_the_same_after_a_restart_and_tells_nothing_of_the_secret() -> None:
    assert config().instance == config().instance
    assert len(config().instance) == 12
    assert config().instance not in SECRET


@pytest.mark.parametrize("other", [config("8" * 64), config(SECRET, "127.0.0.1:8081"), config(instance="b")])
def test_another_secret_or_address_makes_another_one(other: Config) -> None:
    assert other.instance != config().instance


def test_further_addresses_make_no_other() -> None:
    assert config(SECRET, "127.0.0.1:8080", "/run/portunus.sock").instance == config().instance


def test_what_is_configured_counts() -> None:
    assert config(instance="gateway-1").instance == "gateway-1"
    assert config("8" * 64, instance="gateway-1").instance == "gateway-1"
    assert msgspec.structs.replace(config("8" * 64), mcu=McuSection(instance="gateway-1")).instance == "gateway-1"


async def test_janus_knows_the_gateway_by_it_before_and_after_a_restart() -> None:
    async with JanusProcess() as janus:
        settings = (JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),)
        section = McuSection(type="janus", settings=settings)
        shown = msgspec.structs.replace(config(SECRET, "127.0.0.1:0"), mcu=section)
        for _ in range(2):
            gateway = Gateway(shown)
            await gateway.start()
            async with asyncio.timeout(10):
                while not (handles := await janus.handles()):
                    pass
            assert [handle["opaque_id"] for handle in handles] == [f"portunus|{shown.instance}"]
            await gateway.stop()
            assert await janus.handles() == []


async def test_another_name_takes_a_restart() -> None:
    gateway = Gateway(config(SECRET, "127.0.0.1:0"))
    await gateway.start()
    assert await gateway.reload(config(SECRET, "127.0.0.1:0", instance="b")) == ["mcu.instance"]
    await gateway.stop()
