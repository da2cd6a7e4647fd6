"""The claims of a refused token, read without a check of its signature: for the operator's log, never for a decision.

Source: RFC 7519, 4.1.
"""

from __future__ import annotations

import base64

import msgspec
from msgspec import Struct


class UnverifiedClaims(Struct, frozen=True):
    """Issuer and times of a token whose signature is not verified."""

    iss: str = ""
    iat: float = 0.0  # unix time, seconds; 0 = none
    exp: float = 0.0


def read(token: str) -> UnverifiedClaims:
    """Return the claims; all empty if the token cannot be decoded."""
    parts = token.split(".")
    text = parts[1] if len(parts) == 3 else ""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=UnverifiedClaims)
    except (ValueError, RecursionError):  # ValueError: not base64, and all errors of msgspec
        return UnverifiedClaims()
