"""The location of a client."""

from __future__ import annotations

import pytest

from gateway.core.geolocation import LOOPBACK, UNKNOWN, GeoLocation


def test_a_country_has_a_code() -> None:
    place = GeoLocation("CH", "EU")
    assert place.is_known
    assert (place.code, place.continent) == ("CH", "EU")


@pytest.mark.parametrize("place", [LOOPBACK, UNKNOWN])
def test_location_without_a_country_has_no_code(place: GeoLocation) -> None:
    assert not place.is_known
    assert (place.code, place.continent) == ("", "")
