"""Measures the bit rates of the publishers' simulcast layers on one Janus: by its events, or by its Admin API.

Without either, the layers stay in the order of their names and positions in the offer
(``mcu.janus.streams.layer_order``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from mcu.janus.connection.admin_api import connect_admin_api, reason_of
from mcu.janus.connection.messages import InvalidJanusMessage, JanusError
from mcu.janus.connection.session import Clock, JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.layer_order import LayerRates
from mcu.janus.streams.publisher import JanusPublisher

PAUSE = 1.0  # seconds between two rounds; Janus reports the bytes of its last whole second
ROUNDS_BETWEEN = 5  # rounds from one Admin API request to the next for a publisher whose layers need no close watch
ADMIN_TIMEOUT = 2.0  # seconds for all Admin API requests of one round


class LayerWatch:
    """The measurements over one session with Janus; ``clock`` has to be that of ``statistics``."""

    def __init__(
        self, http: aiohttp.ClientSession, session: JanusSession, statistics: EventStatistics, clock: Clock
    ) -> None:
        self._http = http
        self._session = session
        self._statistics = statistics
        self._clock = clock
        self._rounds = 0
        self._warned = False  # the failure of the Admin API was logged

    async def measure(self, publishers: Iterable[JanusPublisher], settings: JanusServerSettings) -> None:
        """Pass the measured layer rates to each publisher with simulcast, then wait for ``PAUSE``: one round.

        Without events, only publishers whose layers need close watch are measured in each round.
        """
        self._rounds += 1
        unmeasured = []
        for publisher in publishers:
            if publisher.layers is None or not publisher.connected or publisher.session is not self._session:
                continue
            found = self._statistics.layer_rates(self._session.id, publisher.handle.id, publisher.layers_mid)
            if found is not None:
                publisher.on_layer_rates(LayerRates(*found))
            elif publisher.layers.needs_close_watch or self._rounds % ROUNDS_BETWEEN == 0:
                unmeasured.append(publisher)
        if unmeasured and settings.admin_url:
            await self._ask_admin_api(unmeasured, settings)
        await asyncio.sleep(PAUSE)

    async def _ask_admin_api(self, publishers: Iterable[JanusPublisher], settings: JanusServerSettings) -> None:
        try:
            async with asyncio.timeout(ADMIN_TIMEOUT), connect_admin_api(self._http, settings) as admin:
                for publisher in publishers:
                    info = await admin.handle_info(self._session.id, publisher.handle.id)
                    rates = () if info is None else info.layer_rates(publisher.layers_mid)
                    if rates:
                        publisher.on_layer_rates(LayerRates(self._clock(), rates))
        except (TimeoutError, OSError, aiohttp.ClientError, JanusError, InvalidJanusMessage) as error:
            if not self._warned:
                self._session.log.warning(
                    "simulcast layers are ordered by their names: Janus' Admin API does not report their bit rates: %s",
                    reason_of(error),
                )
            self._warned = True
