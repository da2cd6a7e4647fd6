"""The checksum of backend requests."""

from __future__ import annotations

import pytest

from gateway.wire import checksum

BODY = b'{"type":"auth","auth":{"version":"1.0","params":{"hello":"world"}}}'
RANDOM = "afb6b872ab03e3376b31bf0af601067222ff7990335ca02d327071b73c0119c6"
SECRET = "MySecretValue"
EXPECTED_CHECKSUM = "3c4a69ff328299803ac2879614b707c807b4758cf19450755c60656cac46e3bc"


# reference 1.4-a
def test_example_of_the_protocol_document_is_reproduced() -> None:
    assert checksum.sign(SECRET, RANDOM, BODY) == EXPECTED_CHECKSUM
    assert checksum.verify(SECRET, RANDOM, EXPECTED_CHECKSUM, BODY)


@pytest.mark.parametrize(
    ("secret", "random", "expected", "body"),
    [
        ("Other", RANDOM, EXPECTED_CHECKSUM, BODY),
        (SECRET, RANDOM[:-1], EXPECTED_CHECKSUM, BODY),
        (SECRET, RANDOM, EXPECTED_CHECKSUM.upper(), BODY),
        (SECRET, RANDOM, EXPECTED_CHECKSUM[:-1], BODY),
        (SECRET, RANDOM, "", BODY),
        (SECRET, RANDOM, EXPECTED_CHECKSUM, BODY + b" "),
    ],
)
def test_wrong_checksum_is_refused(secret: str, random: str, expected: str, body: bytes) -> None:
    assert not checksum.verify(secret, random, expected, body)


@pytest.mark.parametrize("text", ["ü", "\udc80\udcff", "\ud800", "\x00"])
def test_checksum_with_non_ascii_text_is_refused_without_an_exception(text: str) -> None:
    assert not checksum.verify(SECRET, RANDOM, text, BODY)
    assert not checksum.verify(SECRET, text, EXPECTED_CHECKSUM, BODY)


def test_header_bytes_that_are_not_utf8_are_signed_unchanged() -> None:
    random = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert checksum.verify(SECRET, random, checksum.sign(SECRET, random, BODY), BODY)
