"""``portunus health``: asks a running gateway for ``/healthz``, for the health check of a container.

Source: docs/operations.md, "Monitoring".
"""

from __future__ import annotations

import http.client
import socket
import ssl

from gateway.config import Config, listen_address

TIMEOUT = 5.0  # seconds
PATH = "/healthz"


class Unhealthy(Exception):
    """The gateway does not answer as it should; the text is one sentence."""


def check(config: Config) -> str:
    """Send a request to the first address of ``http.listen``, and return that address.

    Raises:
        Unhealthy: nothing or something else answers there.
    """
    entry = config.http.listen[0]
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = _connect(entry, bool(config.http.certificate))
        connection.request("GET", PATH)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise Unhealthy(f"no gateway answers on {entry}: {reason}") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise Unhealthy(f"{PATH} on {entry} answers with status {status}")
    return entry


def _connect(entry: str, tls: bool) -> socket.socket:
    """Connect to an entry of ``http.listen``; the certificate, which is for the public name, is not verified."""
    address = listen_address(entry)
    if address is None:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        sock.connect(entry)
    else:
        host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
        sock = socket.create_connection((host, address[1]), TIMEOUT)
    if not tls:
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)
