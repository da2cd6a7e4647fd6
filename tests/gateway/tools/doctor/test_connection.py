"""The doctor's checks of TLS and TCP: certificates with faults, URLs with the wrong scheme, unreachable addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.tools.doctor import connection
from gateway.tools.doctor.connection import check_tls, connect_tcp, resolve_name
from gateway.tools.doctor.steps import Outcome
from gateway.tools.doctor.target import parse_target
from tests.gateway.certificates import make_certificate
from tests.gateway.tools.doctor.proxy import FaultyProxy


@asynccontextmanager
async def tls_server(certificate: tuple[Path, Path] | None) -> AsyncIterator[int]:
    """Serve with TLS, or without; yield the port."""
    proxy = await FaultyProxy().start(certificate)
    try:
        yield proxy.port
    finally:
        await proxy.close()


async def tls_outcome(certificate: tuple[Path, Path], host: str = "127.0.0.1", scheme: str = "https") -> Outcome:
    async with tls_server(certificate) as port:
        return await check_tls(parse_target(f"{scheme}://{host}:{port}"))


@pytest.fixture
def trusted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trust the certificate that the test makes in the returned folder."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return tmp_path


async def test_valid_certificate_is_ok(trusted_folder: Path) -> None:
    outcome = await tls_outcome(make_certificate(trusted_folder, days=(-1, 80)))
    assert (outcome.state, outcome.cause) == ("ok", "")
    assert outcome.evidence.startswith("the certificate is valid for 127.0.0.1 until ")


async def test_certificate_that_expires_soon_is_a_warning(trusted_folder: Path) -> None:
    outcome = await tls_outcome(make_certificate(trusted_folder, days=(-80, 9)))
    assert outcome.state == "warning"
    assert "renew it now" in outcome.change


@pytest.mark.parametrize(
    ("days", "host", "cause", "change"),
    [
        ((-9, -1), "127.0.0.1", "has expired", "certbot renew"),
        ((1, 9), "127.0.0.1", "not valid yet", "NTP"),
        ((-1, 80), "localhost", "for other names than localhost", "names localhost"),
    ],
)
async def test_certificate_with_a_fault_is_named(
    trusted_folder: Path, days: tuple[float, float], host: str, cause: str, change: str
) -> None:
    outcome = await tls_outcome(make_certificate(trusted_folder, days=days), host)
    assert outcome.state == "failed"
    assert cause in outcome.cause
    assert change in outcome.change


async def test_certificate_of_an_unknown_authority_is_named(tmp_path: Path) -> None:
    outcome = await tls_outcome(make_certificate(tmp_path, days=(-1, 80)))
    assert outcome.state == "failed"
    assert "self-signed" in outcome.cause
    assert "public authority" in outcome.change


async def test_http_for_https_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_TIMEOUT", 60.0)
    outcome = await tls_outcome(make_certificate(tmp_path), scheme="http")
    assert outcome.state == "failed"
    assert outcome.change.startswith("write https in place of http: https://127.0.0.1:")


async def test_address_that_accepts_no_connection_is_a_warning_beside_others() -> None:
    async with tls_server(None) as port:
        target = parse_target(f"http://localhost:{port}")
        await resolve_name(target)
        assert "127.0.0.1" in target.addresses
        target.addresses = ["127.0.0.1", "127.0.0.2"]  # it listens on the first only
        outcome = await connect_tcp(target)
    assert outcome.state == "warning"
    assert outcome.evidence == f"127.0.0.2 port {port}: connection refused"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://signal.example.com", "https://signal.example.com"),
        ("wss://signal.example.com/standalone-signaling/", "https://signal.example.com/standalone-signaling"),
        ("ws://signal.example.com:8080/a/spreed", "http://signal.example.com:8080/a"),
        ("HTTPS://user:word@[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_url_is_understood_as_people_write_it(written: str, url: str) -> None:
    assert parse_target(written).url == url


@pytest.mark.parametrize("written", ["signal.example.com", "ftp://a.example/", "https:///spreed", "https://a:x/"])
def test_other_texts_are_no_url(written: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_target(written)
