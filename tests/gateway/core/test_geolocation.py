"""The location of a client."""

from __future__ import annotations

import pytest

from gateway.core.geolocation import LOOPBACK, UNKNOWN_COUNTRY, GeoLocation


def test_location_in_a_country_has_its_code_and_continent() -> None:
    location = GeoLocation("CH", "EU")
    assert location.is_known
    assert (location.code, location.continent) == ("CH", "EU")


@pytest.mark.parametrize("location", [LOOPBACK, UNKNOWN_COUNTRY])
def test_location_without_a_country_has_no_code(location: GeoLocation) -> None:
    assert not location.is_known
    assert (location.code, location.continent) == ("", "")
