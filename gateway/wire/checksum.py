"""The checksum that authenticates requests between the gateway and Nextcloud, in both directions.

Source: signaling API, Backend requests; reference 1.4.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache


def sign(secret: str, random: str, body: bytes) -> str:
    """Return the checksum of a request: lower-case hex HMAC-SHA256 over the random text followed by the body.

    ``random`` is the text of the ``Spreed-Signaling-Random`` header; when the gateway signs it has 64 characters.
    """
    digest = _begun(secret).copy()
    digest.update(_octets(random))
    digest.update(body)  # may be megabytes: not copied
    return digest.hexdigest()


def verify(secret: str, random: str, checksum: str, body: bytes) -> bool:
    """Return whether ``checksum`` is that of this request; compares in constant time, case-sensitive."""
    try:
        return hmac.compare_digest(sign(secret, random, body).encode(), _octets(checksum))
    except UnicodeEncodeError:  # a surrogate that stands for no byte of a header: the checksum is wrong
        return False


@lru_cache(maxsize=64)  # secrets are those of the configuration; to begin takes half of the time of a short request
def _begun(secret: str) -> hmac.HMAC:
    return hmac.new(_octets(secret), digestmod=hashlib.sha256)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # the inverse of aiohttp's decoding, so that any bytes are kept
