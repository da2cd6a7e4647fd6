"""A call without permission for devices, in which the browser replaces host candidates by mDNS names (RFC 8828)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aioice.ice import get_host_addresses

from gateway.config import McuSection
from gateway.tools.demo import Demo
from mcu import factory
from tests.browser.call_page import CallPage
from tests.browser.chromium import chromium
from tests.browser.conftest import janus
from tests.janus_process import JanusProcess

pytestmark = pytest.mark.full

_CANDIDATE_ADDRESSES = r"""[...portunus.call.publishing.connection("video").localDescription.sdp
  .matchAll(/^a=candidate:\S+ \d \w+ \d+ (\S+) /gm)].map(found => found[1])"""


@pytest.fixture
async def mcu(request: pytest.FixtureRequest) -> AsyncIterator[McuSection]:
    """Yield each SFU on addresses other than loopback: the in-process one on all, Janus on the first."""
    async with AsyncExitStack() as stack:
        if request.param == "inprocess":
            yield McuSection(type="inprocess", settings=factory.settings_type("inprocess")())
        else:
            (address, *_) = get_host_addresses(use_ipv4=True, use_ipv6=False)
            yield janus(await stack.enter_async_context(JanusProcess(ICE_INTERFACES=address)))


@pytest.mark.parametrize("mcu", ["inprocess", "janus"], indirect=True)
async def test_generated_video_is_received_although_all_candidates_are_mdns_names(demo: Demo) -> None:
    async with chromium(on_loopback=False) as browser:
        ada = await CallPage.open(browser, demo.url)
        await ada.join("Ada", wanted="generated")
        bob = await CallPage.open(browser, demo.url)
        await bob.join("Bob", wanted="listen")
        await bob.until_advances("Ada")
        await ada.until_state("Connected, in the call with 1 other")
        await ada.until("gathered", "portunus.call.publishing.connection('video').iceGatheringState === 'complete'")
        addresses = await ada.page.evaluate(_CANDIDATE_ADDRESSES)
        assert addresses
        assert [address for address in addresses if not address.endswith(".local")] == []
        assert ada.problems + bob.problems == []
