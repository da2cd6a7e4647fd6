"""How a gateway is named on an SFU that others use as well."""

from __future__ import annotations

import msgspec
import pytest

from gateway.config import Config, Http, McuSection, Sessions

SECRET = "9f2b6c1d" * 8


def config(secret: str = SECRET, *listen: str, instance: str = "") -> Config:
    return Config(
        sessions=Sessions(secret=secret),
        http=Http(listen=listen or ("127.0.0.1:8080",)),
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
