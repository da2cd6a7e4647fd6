"""A whole gateway in the process of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"


@asynccontextmanager
async def running_gateway(cloud: FakeNextcloud, **sections: Any) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway at a free port for a Nextcloud, whose requests it receives; yield the gateway and its URL.

    ``sections`` are further sections of the configuration, or replace sections that the gateway needs.
    """
    needed: dict[str, Any] = {
        "sessions": SessionsSection(secret=SECRET),
        "http": HttpSection(listen=("127.0.0.1:0",)),
        "backends": (cloud.backend(),),
    }
    async with started_gateway(Config(**needed | sections)) as (gateway, url):
        cloud.gateway = url
        yield gateway, url


@asynccontextmanager
async def started_gateway(config: Config) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway that listens on one address; yield the gateway and its URL."""
    gateway = Gateway(config)
    (url,) = await gateway.start()
    try:
        yield gateway, url
    finally:
        await gateway.stop()
