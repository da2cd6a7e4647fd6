"""The certificate of a demo on https: self-signed, made at the start, for one host."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 30  # of validity, unless the demo ends earlier; browsers refuse more than 398
CLOCK_DIFFERENCE = datetime.timedelta(days=1)  # by which the clock of another device may be behind


class DemoCertificate:
    """A certificate and its key, in memory; another one for each instance."""

    def __init__(self, host: str) -> None:
        """Create a certificate for an address or a name.

        Raises:
            ValueError: ``host`` is neither.
        """
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _sign(host, self._key)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint as browsers show it: octets in hexadecimal digits, separated by colons."""
        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @contextmanager
    def files(self) -> Iterator[tuple[Path, Path]]:
        """Write certificate and key into a folder that only this user can read, and remove it at the end."""
        with tempfile.TemporaryDirectory(prefix="portunus-demo-") as folder:  # its mode is 0700
            certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
            certificate.write_bytes(self.pem)
            key.touch(mode=0o600)
            key.write_bytes(
                self._key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            yield certificate, key

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this certificate and no other."""
        return ssl.create_default_context(cadata=self.pem.decode())


def _sign(host: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portunus demo")])  # 64 characters at most: not the host
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_DIFFERENCE)
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if not host:
            raise
        return x509.DNSName(host.encode("idna").decode())  # UnicodeError is a ValueError
