"""Calls under rules about bitrate and codecs."""

from __future__ import annotations

from gateway.core.limits import Backend, BackendQualityRules
from gateway.core.room import RoomKey
from gateway.flows.settings import MediaLimits
from mcu.base import StreamType
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.fake_mcu import FakePublisher
from tests.gateway.flows.virtual_time import settle

SETTLE_TIME = 2.0  # seconds after which a change has been evaluated and the new limits are sent
ROOM = RoomKey("cloud", "r")


def backend_with(**quality: int | tuple[str, ...]) -> Backend:
    """Return the backend ``cloud`` with these rules."""
    rules = BackendQualityRules(**quality)  # type: ignore[arg-type]  # each test passes values of the right types
    return Backend("cloud", ("https://cloud.example/",), "secret of the cloud", quality=rules)


def harness_with(**quality: int | tuple[str, ...]) -> FlowHarness:
    """Return a harness whose backend has these rules, and whose SFU has limits of its own."""
    return FlowHarness(
        backend_with(**quality), media_limits=MediaLimits(stream_bitrate=1_000_000, screen_bitrate=2_000_000)
    )


async def publishing_clients(harness: FlowHarness, *userids: str) -> list[FakeClient]:
    """Return clients in one call, each of which has published a camera."""
    clients = []
    for userid in userids:
        client = await harness.member(userid, in_call=True, backend=next(iter(harness.services.backends)))
        client.offer(userid)
        clients.append(client)
    await settle()
    return clients


def publisher_of(client: FakeClient, stream_type: StreamType = StreamType.VIDEO) -> FakePublisher:
    """Return a client's publisher on the SFU."""
    publisher = client.harness.publisher(client, stream_type)
    assert publisher is not None
    return publisher


def last_limits(*clients: FakeClient) -> list[int | None]:
    """Return the limit in bit/s that each client's camera was sent last."""
    return [limits[-1] if (limits := publisher_of(client).limits) else None for client in clients]
