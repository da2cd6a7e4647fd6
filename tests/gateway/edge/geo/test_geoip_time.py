"""Times of the reads of the GeoIP database, in virtual time (reference 14.3)."""

from __future__ import annotations

import asyncio
import itertools

from gateway.edge.geo.geoip import START_TIMEOUT, GeoIp
from tests.gateway.edge.geo.sources import DATABASE, OTHER, ScriptedSource, country, rules


# reference 14.3-b
async def test_database_is_read_daily_and_after_failures_with_back_off() -> None:
    failures = ["gone"] * 11
    source = ScriptedSource(DATABASE, None, *failures, OTHER, None)
    geoip = GeoIp(rules("x"), lambda database, key: source)
    await geoip.start()
    assert country(geoip) == "CH"
    while len(source.answers) > 1:
        await asyncio.sleep(50)  # the failures take 1411 s
        assert country(geoip) in ("CH", "FR")  # a database is always in use
    await source.empty.wait()
    await geoip.stop()
    assert country(geoip) == "FR"
    pauses = [round(after - before) for before, after in itertools.pairwise(source.times)]
    assert pauses == [86_400, 86_400, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 86_400]


async def test_start_waits_for_the_database_up_to_its_timeout() -> None:
    class SlowSource:
        async def read(self) -> None:
            await asyncio.sleep(600)

    geoip = GeoIp(rules("x"), lambda database, key: SlowSource())
    start = asyncio.get_running_loop().time()
    await geoip.start()
    assert round(asyncio.get_running_loop().time() - start) == START_TIMEOUT
    await geoip.stop()
