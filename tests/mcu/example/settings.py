"""Settings of the example SFU: the section ``[mcu.example]``."""

from __future__ import annotations

import msgspec


class ExampleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``[mcu.example]``."""

    streams: int = 100  # published at most
