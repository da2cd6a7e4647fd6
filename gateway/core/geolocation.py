"""Where a client is, as far as its address tells.

Source: reference 14.3.
"""

from __future__ import annotations

from typing import NamedTuple


class GeoLocation(NamedTuple):
    """A country as an ISO 3166 code, and its continent: ``AF``, ``AN``, ``AS``, ``EU``, ``NA``, ``OC``, ``SA``."""

    country: str
    continent: str = ""  # empty: unknown

    @property
    def is_known(self) -> bool:
        """Whether the country is one, and not ``loopback`` or ``unknown-country``."""
        return self not in (LOOPBACK, UNKNOWN)

    @property
    def code(self) -> str:
        """The country's code; empty: unknown."""
        return self.country if self.is_known else ""


LOOPBACK = GeoLocation("loopback")
UNKNOWN = GeoLocation("unknown-country")
