"""Publishing with the Talk client, and republishing on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.tools.talk_publishing import REPUBLISH, TalkPublisher
from mcu.base import McuLost
from tests.gateway.fake_sfu import GatewayWithFakeSfu
from tests.gateway.flows.media.descriptions import offer
from tests.gateway.flows.media.fake_mcu import FakeMcu


class FakePeer:
    """PeerConnection without media."""

    made = 0

    def __init__(self) -> None:
        FakePeer.made += 1
        self.name = f"camera {FakePeer.made}"
        self.answers: list[str] = []
        self.closed = False

    async def offer(self) -> str:
        return offer(self.name)

    async def accept(self, answer: str) -> None:
        self.answers.append(answer)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def mcu_and_publisher() -> AsyncIterator[tuple[FakeMcu, TalkPublisher]]:
    async with FakeNextcloud() as nextcloud:
        gateway = GatewayWithFakeSfu(
            Config(
                sessions=SessionsSection(secret="0123456789abcdef0123456789abcdef"),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="inprocess", timeout=1.0),
            )
        )
        (url,) = await gateway.start()
        nextcloud.gateway = url
        async with TalkClient(url, nextcloud.url, features=(REPUBLISH,)) as client:
            await client.hello(nextcloud.ticket("alice"))
            publisher = TalkPublisher(client)
            yield gateway.fake, publisher
            await publisher.close()
        await gateway.stop()


async def wait_for_publications(mcu: FakeMcu, count: int) -> None:
    async with asyncio.timeout(10):
        while len(mcu.published) < count:  # noqa: ASYNC110 - the fake has no event for publications
            await asyncio.sleep(0.01)


async def test_lost_streams_are_republished_from_new_peer_connections(
    mcu_and_publisher: tuple[FakeMcu, TalkPublisher],
) -> None:
    mcu, publisher = mcu_and_publisher
    camera, screen = FakePeer(), FakePeer()
    replacements = [FakePeer(), FakePeer()]
    cameras = iter([camera, replacements[0]])
    screens = iter([screen, replacements[1]])
    assert await publisher.publish("video", lambda: next(cameras)) is camera
    assert await publisher.publish("screen", lambda: next(screens)) is screen
    sids = {publication.sid for publication in publisher.publications.values()}
    mcu.lose_streams()
    await mcu.recover()
    await wait_for_publications(mcu, 4)
    assert camera.closed
    assert screen.closed
    tasks = [publication.task for publication in publisher.publications.values() if publication.task is not None]
    await asyncio.gather(*tasks)
    assert [publication.connection for publication in publisher.publications.values()] == replacements
    assert [len(peer.answers) for peer in replacements] == [1, 1]
    assert sids.isdisjoint(publication.sid for publication in publisher.publications.values())


async def test_stopped_or_replaced_stream_is_not_republished(mcu_and_publisher: tuple[FakeMcu, TalkPublisher]) -> None:
    mcu, publisher = mcu_and_publisher
    await publisher.publish("screen", FakePeer)
    await publisher.publish("video", FakePeer)
    await publisher.stop("screen")
    connection = publisher.publications["video"].connection
    publisher.client.on_republish("video", "another sid")
    publisher.client.on_republish("screen", "")
    assert publisher.publications["video"].task is None
    assert publisher.publications["video"].connection is connection
    assert len(mcu.published) == 2


async def test_refused_offer_raises_and_is_repeated_after_a_republish_message(
    mcu_and_publisher: tuple[FakeMcu, TalkPublisher], caplog: pytest.LogCaptureFixture
) -> None:
    mcu, publisher = mcu_and_publisher
    mcu.publish_error = McuLost("gone")
    with pytest.raises(RequestRefused, match="client_not_found"):
        await publisher.publish("video", FakePeer)
    publisher.client.on_republish("video", "")
    async with asyncio.timeout(10):
        while "was not republished" not in caplog.text:  # noqa: ASYNC110 - log lines cause no event
            await asyncio.sleep(0.01)
    mcu.publish_error = None
    await wait_for_publications(mcu, 1)
