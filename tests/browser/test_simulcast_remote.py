"""Layers of simulcast behind a second Janus: one Chromium page sends three sizes, another one chooses over there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, Http, McuSection, Sessions
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.janus.settings import JanusServer
from tests.browser.chromium import FAKE_DEVICES, GRANTED, chromium
from tests.browser.test_simulcast import HEIGHTS, ROOM, SMALL_LAYERS, WAIT, Person, listen, serve
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

pytestmark = pytest.mark.full


async def test_a_subscriber_chooses_the_size_of_a_picture_that_comes_from_another_janus() -> None:
    async with AsyncExitStack() as stack:
        janus = [await stack.enter_async_context(JanusProcess()) for _ in range(2)]
        far, near = (
            JanusServer(one.url, api_secret=API_SECRET, admin_key=ADMIN_KEY, remote_streams=True) for one in janus
        )
        near = msgspec.structs.replace(near, country="DE", draining=True)
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        config = Config(
            sessions=Sessions(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=Http(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            mcu=McuSection("janus", settings=(far, near)),
            geoip=GeoIpSection(overrides={"127.0.0.1": "DE"}),
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        page = await serve(stack)
        browser = await stack.enter_async_context(chromium(FAKE_DEVICES, GRANTED, SMALL_LAYERS))
        people = []
        for name in ("ada", "bob"):
            person = Person(await (await browser.new_context()).new_page(), [])
            listen(person)
            await person.page.goto(page)
            settings = {
                "url": url.replace("http", "ws", 1) + "/spreed",
                "auth": {"url": nextcloud.url, "params": nextcloud.ticket(name)},
                "room": {"roomid": ROOM, "sessionid": f"nc-{name}"},
            }
            async with asyncio.timeout(WAIT):
                person.id = await person.page.evaluate("settings => enter(settings)", settings)
            people.append(person)
        ada, bob = people
        users = [{"sessionId": f"nc-{name}", "inCall": 7} for name in ("ada", "bob")]
        body = {"type": "incall", "incall": {"incall": 7, "changed": users, "users": users}}
        assert (await nextcloud.send(url, ROOM, body))[0] == 200

        await ada.publish("qhf")
        near = msgspec.structs.replace(near, draining=False)
        await gateway.reload(msgspec.structs.replace(config, mcu=McuSection("janus", settings=(far, near))))
        async with asyncio.timeout(WAIT):
            while not await janus[1].handles():  # noqa: ASYNC110 - it can only be asked
                await asyncio.sleep(0.05)
        await bob.subscribe(ada)
        await bob.sees(HEIGHTS["f"])
        assert [len(await one.rooms()) for one in janus] == [1, 1]
        assert [len(await one.handles()) for one in janus] == [2, 2]
        for substream, name in ((0, "q"), (2, "f"), (1, "h")):
            await bob.choose(ada, substream=substream)
            await bob.sees(HEIGHTS[name])
        await bob.receives(15, 25)
        await bob.choose(ada, temporal=0)
        await bob.receives(2, 8)
