"""Packages that ``portunus serve`` imports at its start."""

from __future__ import annotations

import subprocess
import sys

# needed for the in-process SFU or for a hello 2.0; together they take 50 MB
LATER = ("aioice", "aiortc", "av", "cryptography", "jwt", "numpy", "OpenSSL", "pylibsrtp")
TRACING = ("opentelemetry", "google.protobuf", "requests")  # only with ``[tracing]``


def test_gateway_with_janus_starts_without_packages_that_it_may_never_need() -> None:
    unneeded = LATER + TRACING
    program = (
        f"import sys, gateway.tools.serve, mcu.janus.backend; print([it for it in {unneeded} if it in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"
