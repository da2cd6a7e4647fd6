"""The reason of a failed request to a backend, in words."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from gateway.edge.nextcloud.failures import explained


def caused_by(error: Exception) -> Exception:
    try:
        try:
            raise error
        except OSError as cause:
            raise ConnectionError("wrapped 192.0.2.1") from cause
    except ConnectionError as wrapper:
        failure = RuntimeError("no answer")
        failure.__cause__ = wrapper
        return failure


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no answer (its name does not resolve)"),
        (ssl.SSLError(1, "wrong version number"), "no answer (TLS failed, as towards a port without TLS: "),
        (OSError(errno.ENETUNREACH, "at 192.0.2.1"), "no answer (network is unreachable)"),
        (OSError("192.0.2.1"), "no answer"),
    ],
)
def test_innermost_cause_is_told_without_an_address(cause: Exception, text: str) -> None:
    assert explained(caused_by(cause)).startswith(text)
    assert "192.0.2" not in explained(caused_by(cause))
