"""The country and continent of a client, derived from its address.

Source: reference 14.3.
"""

from __future__ import annotations

from typing import NamedTuple


class GeoLocation(NamedTuple):
    """A country and its continent: ``AF``, ``AN``, ``AS``, ``EU``, ``NA``, ``OC``, ``SA``."""

    country: str  # ISO 3166 code, or the pseudo country of ``LOOPBACK`` or ``UNKNOWN_COUNTRY``
    continent: str = ""  # empty: unknown

    @property
    def is_known(self) -> bool:
        """Whether ``country`` is an ISO 3166 code."""
        return self not in (LOOPBACK, UNKNOWN_COUNTRY)

    @property
    def code(self) -> str:
        """The ISO code of the country; empty when unknown."""
        return self.country if self.is_known else ""


LOOPBACK = GeoLocation("loopback")
UNKNOWN_COUNTRY = GeoLocation("unknown-country")
