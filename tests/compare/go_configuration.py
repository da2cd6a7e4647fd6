"""The Go server's version, and its configuration as ``make compare`` and ``make bench`` need it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENDPOINT = "ocs/v2.php/apps/spreed/api/v1/signaling/backend"


@dataclass(frozen=True)
class GoBackend:
    """Nextcloud in the configuration of the Go server."""

    id: str
    url: str  # with a final slash
    secret: str
    session_limit: int = 0  # 0 = none


def version(binary: Path) -> str:
    """Return the version that the binary prints."""
    printed = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    return printed.strip().removeprefix("nextcloud-spreed-signaling version ").split("/go")[0]


def server_conf(port: int, backends: Sequence[GoBackend], *, janus: str = "", internal_secret: str = "") -> str:
    """Return a ``server.conf``: one process without NATS, on 127.0.0.1; ``janus`` is the URL of the SFU."""
    lines = [
        "[http]",
        f"listen = 127.0.0.1:{port}",
        "[sessions]",
        "hashkey = 0123456789abcdef0123456789abcdef",
        "[clients]",
        f"internalsecret = {internal_secret}" if internal_secret else "",
        "[backend]",
        "backendtype = static",
        f"backends = {', '.join(backend.id for backend in backends)}",
        *(line for backend in backends for line in _section(backend)),
        "[nats]",
        "url = nats://loopback",
        "[stats]",
        "allowed_ips = 127.0.0.1",
        *(["[mcu]", "type = janus", f"url = {janus}"] if janus else []),
    ]
    return "\n".join(lines) + "\n"


def _section(backend: GoBackend) -> list[str]:
    return [
        f"[{backend.id}]",
        f"url = {backend.url}",
        f"urls = {backend.url}",
        f"secret = {backend.secret}",
        f"sessionlimit = {backend.session_limit}",
    ]
