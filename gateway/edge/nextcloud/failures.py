"""The reason of a failed request to a backend, in words for the operator and without an address."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from gateway.edge.nextcloud.backend_connection import Redirected
from gateway.flows.refused_urls import origin, shown

_OCS = "/ocs/v2.php/"  # begins the path of each request, below the base URL


def explanation(failure: Exception) -> str:
    """Return the text of a failed request and its cause for the log; clients may receive ``str(failure)`` only."""
    if isinstance(failure, Redirected):
        if base := redirect_base(failure):
            return f"the backend redirects to {base}: put that URL into backend.urls"
        return f"the backend redirects to a page of {origin(failure.location)}, not to the API of a Nextcloud"
    for error in _causes(failure):
        if reason := _reason(error):
            return f"{failure} ({reason})"
    return str(failure)


def redirect_base(failure: Redirected) -> str:
    """Return the base URL of the Nextcloud to which a redirect leads; empty if it leads elsewhere."""
    base, ocs, _ = failure.location.partition(_OCS)
    base = shown(base)
    return f"{base.rstrip('/')}/" if ocs and base.startswith("http") else ""


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
