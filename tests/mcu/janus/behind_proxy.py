"""A Janus behind a TCP proxy that can break the connection, and the backend on the other side of the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mcu.base import SfuState
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess
from tests.mcu.janus.conftest import INSTANCE, WAIT, JanusCall, RecordedStates, until_counts
from tests.mcu.janus.tcp_proxy import TcpProxy


class JanusBehindProxy:
    """A Janus behind a TCP proxy, and the backend that connects to it through the proxy."""

    def __init__(self, janus: JanusProcess, proxy: TcpProxy, states: RecordedStates, stack: AsyncExitStack) -> None:
        self.janus = janus
        self.proxy = proxy
        self.states = states
        self._stack = stack

    async def start_call(self, *, admin: bool = False) -> JanusCall:
        """Start the backend; ``admin``: with the Admin API, whose connection does not pass the proxy."""
        admin_url, admin_secret = (self.janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        settings = JanusServerSettings(self.proxy.url, API_SECRET, "", ADMIN_KEY, admin_url, admin_secret)
        self.mcu = JanusMcu((settings,), timeout=WAIT, instance=INSTANCE)
        await self.mcu.start(self.states)
        self._stack.push_async_callback(self.mcu.stop)
        await self.states.until(lambda status: status.ready)
        return JanusCall(self.mcu, self._stack)

    async def until_ready(self, limit: float = WAIT) -> None:
        """Wait until the backend can use Janus again."""
        await self.states.until(lambda status: status.ready, limit)

    async def until_unreachable(self, limit: float = WAIT) -> str:
        """Wait until the backend cannot use Janus, and return the reason in the status."""
        status = await self.states.until(lambda status: not status.ready, limit)
        assert status.sfus[0].state is SfuState.CONNECTING
        return status.sfus[0].reason

    async def until_counts(self, *, rooms: int, handles: int) -> None:
        """Poll Janus until it has these numbers of rooms, and of handles other than the control handle."""
        await until_counts(self.janus, rooms=rooms, handles=handles)


@pytest.fixture
async def proxied_janus(janus: JanusProcess, states: RecordedStates, loopback: None) -> AsyncIterator[JanusBehindProxy]:
    async with TcpProxy(janus.values["WS_PORT"]) as proxy, AsyncExitStack() as stack:
        yield JanusBehindProxy(janus, proxy, states, stack)
