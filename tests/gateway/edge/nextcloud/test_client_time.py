"""Time limit and number of concurrent requests to Nextcloud, in virtual time over real sockets (reference 3.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.edge.nextcloud.client import NextcloudClient
from gateway.flows.ports import NextcloudError
from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.gateway.edge.nextcloud.test_client import FEATURES, join


@pytest.fixture
async def client() -> AsyncIterator[NextcloudClient]:
    async with NextcloudClient("test/1.0", FEATURES, clock=asyncio.get_running_loop().time) as made:
        yield made


# reference 3.7-d
async def test_request_fails_without_an_answer_in_10_seconds(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    await join(client, cloud)
    cloud.gate = asyncio.Event()
    start = asyncio.get_running_loop().time()
    with pytest.raises(NextcloudError):
        await join(client, cloud)
    assert asyncio.get_running_loop().time() - start == pytest.approx(10, abs=0.5)
    cloud.gate.set()


# reference 3.7-d
async def test_eight_requests_run_at_once_and_a_ninth_waits(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    await join(client, cloud)
    cloud.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(join(client, cloud))
        await asyncio.sleep(5)
        assert len(cloud.requests_of("room")) == 1 + 8
        cloud.gate.set()
    assert len(cloud.requests_of("room")) == 1 + 9
