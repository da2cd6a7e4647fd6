"""Claims of tokens that were refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.wire.unverified_claims import UnverifiedClaims, read


def token(claims: Any) -> str:
    text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{text}.signature"


def test_issuer_and_times_are_read() -> None:
    claims = {"iss": "https://cloud.example/", "iat": 10, "exp": 20.5, "sub": "alice"}
    assert read(token(claims)) == UnverifiedClaims("https://cloud.example/", 10, 20.5)


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "..", "a.é.c", "a.!.c", "a.e30.c.d", token([]), token({"iss": 5}), token({"exp": "x"})]
)
def test_unreadable_token_has_no_claims(text: str) -> None:
    assert read(text) == UnverifiedClaims()
