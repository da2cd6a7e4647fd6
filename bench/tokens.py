"""The keys and tokens of hello 2.0: one signing key for each algorithm, at a backend of its own."""

from __future__ import annotations

import json
import time
from pathlib import Path

from gateway.tools.fake_nextcloud import SigningKey

ALGORITHMS = {"es256": "ES256", "rs256": "RS256", "eddsa": "EdDSA"}  # by backend


class TokenKeys:
    """The signing keys by backend; they exist once in a run."""

    def __init__(self) -> None:
        self._keys = {backend: SigningKey(algorithm) for backend, algorithm in ALGORITHMS.items()}

    def write_published(self, folder: Path) -> Path:
        """Write the public keys by backend as JSON, and return the file."""
        file = folder / "keys.json"
        file.write_text(json.dumps({backend: key.published for backend, key in self._keys.items()}))
        return file

    def token(self, backend: str, issuer: str, userid: str) -> str:
        """Return a token as Nextcloud issues it, valid for an hour."""
        now = int(time.time())
        userdata = {"displayname": f"User {userid}"}
        claims = {"iss": issuer, "iat": now, "exp": now + 3600, "sub": userid, "userdata": userdata}
        return self._keys[backend].sign(claims)
