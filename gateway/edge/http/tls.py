"""TLS of the listening addresses, with a certificate that can be replaced while they listen.

Source: reference 1.1.
"""

from __future__ import annotations

import ssl

from gateway.edge.http.tls_overhead import LimitedContext

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; all of TLS 1.3 have forward secrecy


class ServerTls:
    """The TLS context of all addresses; ``replace`` changes the certificate of later connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._current = self.context
        # Called for each connection, also without SNI. A certificate that is loaded into a context in use would not
        # replace one of another key type, since a context holds one certificate of each type.
        self.context.sni_callback = self._choose

    def replace(self, context: ssl.SSLContext) -> None:
        """Use the certificate of another context for later connections."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def create_context(certificate: str, key: str) -> ssl.SSLContext:
    """Create the context for TLS 1.2 and 1.3 with forward secrecy: a stolen key decrypts no recorded traffic.

    The certificate and its key are read from PEM files at two paths.

    Raises:
        OSError: a file cannot be read, or (``ssl.SSLError``) is not a certificate or key.
    """
    context = LimitedContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.load_cert_chain(certificate, key)
    return context
