"""Types that the forms of messages, events and requests share."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

Json = Any  # opaque: written by a client or a backend
Name = Annotated[str, Meta(min_length=1)]  # an id; not empty


class Closed(Struct, forbid_unknown_fields=True):
    """Base of all forms: an unknown key is an error."""
