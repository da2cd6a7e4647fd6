"""Records of TLS 1.3 that a client seals itself, from the secret in a key log (RFC 8446, 5 and 7)."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, APPLICATION_DATA = 22, 23  # types of records
KEY_UPDATE = bytes([24, 0, 0, 1, 1])  # a message that requests an update of the peer's keys, too


class TrafficKeys:
    """The keys of TLS_AES_256_GCM_SHA384 with which a client sends (RFC 8446, 7)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._derive()

    def seal(self, type: int, content: bytes) -> bytes:
        """Return a record."""
        head = bytes([APPLICATION_DATA, 3, 3]) + (len(content) + 17).to_bytes(2)
        nonce = (int.from_bytes(self._iv) ^ self._number).to_bytes(12)
        self._number += 1
        return head + self._cipher.encrypt(nonce, content + bytes([type]), head)

    def update(self) -> None:
        """Replace the keys after a ``KEY_UPDATE``."""
        self._secret = self._expand(b"traffic upd", 48)
        self._derive()

    def _derive(self) -> None:
        self._cipher = AESGCM(self._expand(b"key", 32))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        info = length.to_bytes(2) + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)


def read_secret(key_log: Path) -> bytes:
    """Return the client's first secret for application data."""
    lines = [line.split() for line in key_log.read_text().splitlines()]
    (secret,) = [line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
    return bytes.fromhex(secret)
