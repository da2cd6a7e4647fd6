"""The outcome of verifying the token of a hello 2.0: its claims, or an error.

``gateway.wire.token`` verifies tokens. It is a module of its own because it imports PyJWT and cryptography: they take 9
MB of memory and a tenth of the time of a gateway's start, and only hellos 2.0 need them.
"""

from __future__ import annotations

from msgspec import Struct

INVALID_TOKEN = "invalid_token"
NOT_YET = "token_not_valid_yet"
TOKEN_EXPIRED = "token_expired"


class TokenError(Exception):
    """The token was rejected; ``code`` is the error code for the client.

    ``other_key``: the token may be valid for another key.
    """

    def __init__(self, code: str, *, other_key: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.other_key = other_key


class Claims(Struct, frozen=True):
    """The claims of a valid token; an empty ``userid`` means anonymous, ``user`` is the raw JSON of ``userdata``."""

    userid: str
    user: bytes | None  # never the JSON null
