"""The instance name of a gateway on an SFU that several gateways use."""

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


def test_instance_name_survives_a_restart_and_hides_the_secret() -> None:
    assert config().instance == config().instance
    assert len(config().instance) == 12
    assert config().instance not in SECRET


@pytest.mark.parametrize("other", [config("8" * 64), config(SECRET, "127.0.0.1:8081"), config(instance="b")])
def test_instance_name_depends_on_secret_and_first_address(other: Config) -> None:
    assert other.instance != config().instance


def test_instance_name_does_not_depend_on_further_addresses() -> None:
    assert config(SECRET, "127.0.0.1:8080", "/run/portunus.sock").instance == config().instance


def test_configured_instance_name_is_used() -> None:
    assert config(instance="gateway-1").instance == "gateway-1"
    assert config("8" * 64, instance="gateway-1").instance == "gateway-1"


async def test_handles_on_janus_have_the_instance_name_after_a_restart_too() -> None:
    async with JanusProcess() as janus:
        settings = (JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),)
        section = McuSection(type="janus", settings=settings)
        with_janus = msgspec.structs.replace(config(SECRET, "127.0.0.1:0"), mcu=section)
        for _ in range(2):
            gateway = Gateway(with_janus)
            await gateway.start()
            async with asyncio.timeout(60):
                while not (handles := await janus.handles()):  # noqa: ASYNC110 - Janus reports new handles by no event
                    await asyncio.sleep(0.02)
            assert [handle["opaque_id"] for handle in handles] == [f"portunus|{with_janus.instance}"]
            await gateway.stop()
            assert await janus.handles() == []


async def test_changed_instance_name_needs_a_restart() -> None:
    gateway = Gateway(config(SECRET, "127.0.0.1:0"))
    await gateway.start()
    assert await gateway.reload(config(SECRET, "127.0.0.1:0", instance="b")) == ["mcu.instance"]
    await gateway.stop()
