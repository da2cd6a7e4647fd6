"""The reason of a failed request to a backend, in words for the operator and without an address."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator


def explained(failure: Exception) -> str:
    """Return the text of a failed request with what its causes say; the text alone is what clients may receive."""
    for error in _causes(failure):
        if reason := _reason(error):
            return f"{failure} ({reason})"
    return str(failure)


def _reason(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid here: {error.verify_message}"
        case ssl.SSLError():
            return "TLS failed, as towards a port without TLS: is this a URL with http?"
        case socket.gaierror():
            return "its name does not resolve"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the causes of an exception, the innermost first."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    yield from reversed(chain)
