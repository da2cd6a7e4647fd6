"""The reason of a failed request to a backend, in words."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from gateway.edge.nextcloud.backend_connection import Redirected
from gateway.edge.nextcloud.failures import explanation


def caused_by(error: Exception) -> Exception:
    """Return an exception whose innermost cause is ``error``."""
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
def test_explanation_is_the_innermost_cause_without_an_address(cause: Exception, text: str) -> None:
    assert explanation(caused_by(cause)).startswith(text)
    assert "192.0.2" not in explanation(caused_by(cause))


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (
            "https://cloud.example.com/ocs/v2.php/cloud/capabilities?x=1",
            "https://cloud.example.com/: put that URL into",
        ),
        ("https://h.example:444/nextcloud/ocs/v2.php/cloud", "https://h.example:444/nextcloud/: put that URL into"),
        ("https://h.example/login?token=a-secret", "a page of https://h.example, not to the API"),
        ("https://name:a-secret@h.example/ocs/v2.php/cloud", "a page of a URL with user information, not"),
        ("javascript:a-secret", "a page of a text that is no http or https URL, not"),
        ("http://[", "a page of http://[, not"),
        ("", "a page of no URL, not"),
    ],
)
def test_target_of_a_redirect_is_named_without_secrets(location: str, text: str) -> None:
    message = explanation(Redirected(301, location))
    assert message.startswith(f"the backend redirects to {text}")
    assert "a-secret" not in message
    assert str(Redirected(301, location)) == "the backend redirects, configure its final URL"
