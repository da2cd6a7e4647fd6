"""The certificate of a demo on https: host, validity, and a key that nobody else can read."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import stat
from ipaddress import ip_address

import pytest
from cryptography import x509

from gateway.tools.demo_certificate import DAYS, DemoCertificate


def read(certificate: DemoCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.pem)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.7", x509.IPAddress(ip_address("192.0.2.7"))),
        ("2001:db8::7", x509.IPAddress(ip_address("2001:db8::7"))),
        ("laptop.local", x509.DNSName("laptop.local")),
        ("büro.example", x509.DNSName("xn--bro-hoa.example")),
    ],
)
def test_certificate_is_for_the_host_alone(host: str, name: x509.GeneralName) -> None:
    extension = read(DemoCertificate(host)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(extension.value) == [name]


def test_certificate_is_valid_from_yesterday_for_a_month_and_signs_no_other() -> None:
    certificate = read(DemoCertificate("192.0.2.7"))
    now = datetime.datetime.now(datetime.UTC)
    assert abs(now - certificate.not_valid_before_utc - datetime.timedelta(days=1)) < datetime.timedelta(minutes=1)
    assert abs(certificate.not_valid_after_utc - now - datetime.timedelta(days=DAYS)) < datetime.timedelta(minutes=1)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_files_are_readable_by_the_user_alone_and_removed() -> None:
    with DemoCertificate("192.0.2.7").files() as (certificate, key):
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert not key.parent.exists()


def test_fingerprint_is_the_digest_of_the_certificate_as_browsers_show_it() -> None:
    certificate = DemoCertificate("192.0.2.7")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.pem.decode())).hexdigest().upper()
    assert certificate.fingerprint.replace(":", "") == digest
    assert len(certificate.fingerprint.split(":")) == 32


def test_each_start_has_a_key_of_its_own() -> None:
    assert DemoCertificate("192.0.2.7").fingerprint != DemoCertificate("192.0.2.7").fingerprint


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64])
def test_host_that_is_no_address_and_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the idna codec and of cryptography
        DemoCertificate(host)
