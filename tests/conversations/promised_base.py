"""What the forms of the protocol document have in common."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

Json = Any  # opaque: what a client, a backend or a publisher wrote
Name = Annotated[str, Meta(min_length=1)]  # an id that is there


class Closed(Struct, forbid_unknown_fields=True):
    """Base of all: an unknown key is an error."""
