"""The page's messages over a connection that breaks: none is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page

from gateway.config import McuSection
from tests.browser.call_page import CallPage
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.browser.conftest import demo_with, inprocess
from tests.gateway.cutting_proxy import CuttingProxy

COUNT = 150  # messages in each direction

# Two sessions of the page's own module: one over a connection that breaks, one over an intact one.
EXCHANGE = """async ([brokenUrl, url, count]) => {
  const { Signaling } = await import("/demo/signaling.js");
  const backend = await import("/demo/backend.js");
  const join = (name) => backend.join({ name, room: "r", person: name.repeat(8), previous: "" });
  const open = async (name, address) => {
    const { ticket, url: cloud } = await join(name);
    const client = new Signaling(address, async () => ({ version: "1.0", auth: { url: cloud, params: { ticket } } }));
    client.numbers = [];
    client.addEventListener("message", ({ detail }) => {
      if (detail.type === "message" && detail.message.data.type === "count") client.numbers.push(detail.message.data.n);
    });
    await client.open();
    return client;
  };
  const alice = await open("alice", brokenUrl);
  const bob = await open("bob", url);
  globalThis.receivedNumbers = () => [alice.numbers, bob.numbers];
  for (let n = 0; n < count; n += 1) {
    for (const [from, to] of [[alice, bob], [bob, alice]]) {
      const recipient = { type: "session", sessionid: to.sessionId };
      from.send({ type: "message", message: { recipient, data: { type: "count", n, padding: "x".repeat(100) } } });
    }
    if (n % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}"""


@pytest.fixture
async def page() -> AsyncIterator[tuple[Page, str]]:
    async with demo_with(McuSection()) as demo, chromium() as browser:
        opened = await browser.new_page(bypass_csp=True)  # the proxy is not the page's own host
        await opened.goto(demo.url)
        yield opened, demo.url.rstrip("/")


ALL_RECEIVED = "count => receivedNumbers().every((numbers) => numbers.includes(count - 1))"

# Simulates a network that blocks WebSockets.
NO_WEBSOCKET = """() => {
  globalThis.WebSocket = class extends EventTarget {
    constructor() {
      super();
      setTimeout(() => this.dispatchEvent(new Event("close")));
    }
    close() {}
  };
}"""


@pytest.mark.parametrize("bytes_before_cut", [(1 << 40, 1 << 41), (400, 25_000)], ids=["whole", "cut"])
async def test_page_polls_where_no_websocket_can_be_opened(
    page: tuple[Page, str], bytes_before_cut: tuple[int, int]
) -> None:
    opened, url = page
    rng, count = random.Random(4), 60  # few enough for one answer that is not cut
    async with CuttingProxy(url, lambda: rng.randrange(*bytes_before_cut)) as line, asyncio.timeout(60):
        await opened.evaluate(NO_WEBSOCKET)
        await opened.evaluate(
            EXCHANGE, [f"{address.replace('http', 'ws')}/spreed" for address in (line.url, url)] + [count]
        )
        await opened.wait_for_function(ALL_RECEIVED, arg=count)
        assert await opened.evaluate("receivedNumbers()") == [list(range(count))] * 2
        assert (line.cuts >= 2) is (bytes_before_cut[0] < 1 << 40)


async def test_page_loses_and_doubles_no_message_when_the_connection_breaks(page: tuple[Page, str]) -> None:
    opened, url = page
    rng = random.Random(3)
    async with CuttingProxy(url, lambda: rng.randrange(3000, 12_000)) as line, asyncio.timeout(60):
        await opened.evaluate(
            EXCHANGE, [line.url.replace("http", "ws") + "/spreed", url.replace("http", "ws") + "/spreed", COUNT]
        )
        await opened.wait_for_function(ALL_RECEIVED, arg=COUNT)
        assert await opened.evaluate("receivedNumbers()") == [list(range(COUNT))] * 2
        assert line.cuts >= 2


# Alice is disconnected several times while Bob writes to her; the missed messages arrive together with her hello reply.
COUNT_MISSED = """async ([address, rounds, each]) => {
  const { Signaling } = await import("/demo/signaling.js");
  const backend = await import("/demo/backend.js");
  const real = globalThis.fetch;
  let broken = false;
  const open = async (name, url) => {
    const { ticket, url: cloud } = await backend.join({ name, room: "r", person: name.repeat(8), previous: "" });
    const client = new Signaling(url, async () => ({ version: "1.0", auth: { url: cloud, params: { ticket } } }));
    await client.open();
    return client;
  };
  const alice = await open("alice", `${address.replace("http", "ws")}/spreed`);
  const bob = await open("bob", `${address.replace("http", "ws")}/standalone-signaling/spreed`);
  globalThis.fetch = async (url, options) =>
    broken && String(url) === `${address}/spreed/poll` ? new Response("", { status: 404 }) : real(url, options);
  const numbers = [];
  let check = () => {};
  alice.addEventListener("message", ({ detail }) => {
    if (detail.type === "message" && detail.message.data.type === "count") numbers.push(detail.message.data.n);
    check();
  });
  alice.addEventListener("state", () => check());
  const until = (wanted) => new Promise((resolve) => {
    check = () => wanted() && resolve();
    check();
  });
  let last = 0;
  const write = async () => {
    const recipient = { type: "session", sessionid: alice.sessionId };
    bob.send({ type: "message", message: { recipient, data: { type: "count", n: ++last } } });
    await bob.request({ type: "" }).catch(() => {}); // an error; the messages before it are handled by then
  };
  for (let round = 0; round < rounds; round += 1) {
    broken = true;
    await write(); // answers the waiting poll; the next poll fails
    await until(() => alice.state === "away");
    for (let n = 0; n < each; n += 1) await write();
    broken = false;
    alice.retry();
    await until(() => alice.state === "open" && numbers.includes(last));
  }
  return [last, numbers];
}"""


async def test_page_counts_messages_that_arrive_together_with_its_hello_reply(page: tuple[Page, str]) -> None:
    opened, url = page
    await opened.evaluate(NO_WEBSOCKET)
    async with asyncio.timeout(60):
        last, numbers = await opened.evaluate(COUNT_MISSED, [url, 3, 4])
    assert numbers == list(range(1, last + 1))
    assert last == 15


@pytest.mark.full
async def test_a_call_works_over_long_polling_alone() -> None:
    async with demo_with(inprocess()) as demo, chromium(FAKE_DEVICES, CAMERA_GRANTED) as browser:
        pages = {}
        for name in ("Ada", "Bob"):
            page = pages[name] = await CallPage.open(browser, demo.url)
            await page.page.evaluate(NO_WEBSOCKET)
            await page.join(name)
        for own, page in pages.items():
            await page.until_state("Connected, in the call with 1 other")
            for other in pages.keys() - {own}:
                await page.until_advances(other)
                await page.until_audio_received(other)
            assert page.problems == []
        await pages["Ada"].page.click("#leave")
        await pages["Bob"].until_no_tile("Ada")
