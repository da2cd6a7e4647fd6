"""Where a client is."""

from __future__ import annotations

import pytest

from gateway.core.place import LOOPBACK, UNKNOWN, Place


def test_a_country_has_a_code() -> None:
    place = Place("CH", "EU")
    assert place.is_known
    assert (place.code, place.continent) == ("CH", "EU")


@pytest.mark.parametrize("place", [LOOPBACK, UNKNOWN])
def test_what_is_no_country_has_none(place: Place) -> None:
    assert not place.is_known
    assert (place.code, place.continent) == ("", "")
