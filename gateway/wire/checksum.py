"""The checksum that guards requests between the gateway and Nextcloud, in both directions.

Source: signaling API, Backend requests; reference 1.4.
"""

from __future__ import annotations

import hashlib
import hmac


def sign(secret: str, random: str, body: bytes) -> str:
    """Return the checksum of a request: lower-case hex HMAC-SHA256 over the random text followed by the body.

    ``random`` is the text of the ``Spreed-Signaling-Random`` header; when the gateway signs it has 64 characters.
    """
    return hmac.new(_octets(secret), _octets(random) + body, hashlib.sha256).hexdigest()


def verify(secret: str, random: str, checksum: str, body: bytes) -> bool:
    """Tell whether ``checksum`` is the one of this request; in constant time, case-sensitive."""
    try:
        return hmac.compare_digest(sign(secret, random, body).encode(), _octets(checksum))
    except UnicodeEncodeError:  # a surrogate that stands for no octet of a header: nobody can have signed that
        return False


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as aiohttp decoded the header, so any octets survive
