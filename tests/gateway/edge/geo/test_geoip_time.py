"""When the database of countries is looked for again, in virtual time (reference 14.3)."""

from __future__ import annotations

import asyncio
import itertools

from gateway.edge.geo.geoip import PATIENCE, GeoIp
from tests.gateway.edge.geo.test_geoip import DATABASE, OTHER, Script, Settings, country


# reference 14.3-b
async def test_it_is_looked_for_daily_and_after_failures_in_one_second_to_five_minutes() -> None:
    failures = ["gone"] * 11
    script = Script(DATABASE, None, *failures, OTHER, None)
    geoip = GeoIp(Settings("x"), lambda database, key: script)
    await geoip.start()
    assert country(geoip) == "CH"
    while len(script.answers) > 1:
        await asyncio.sleep(0.5)
        assert country(geoip) in ("CH", "FR")  # never without
    await script.empty.wait()
    await geoip.stop()
    assert country(geoip) == "FR"
    pauses = [round(after - before) for before, after in itertools.pairwise(script.asked)]
    assert pauses == [86_400, 86_400, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 86_400]


async def test_the_start_does_not_wait_long_for_it() -> None:
    class Slow:
        async def read(self) -> None:
            await asyncio.sleep(600)

    geoip = GeoIp(Settings("x"), lambda database, key: Slow())
    start = asyncio.get_running_loop().time()
    await geoip.start()
    assert round(asyncio.get_running_loop().time() - start) == PATIENCE
    await geoip.stop()
