"""Tokens of hello 2.0 (reference 3.3). Each test runs with both verifiers, which test_token_verifiers.py compares."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import token as token_module
from gateway.wire.claims import Claims, TokenError
from gateway.wire.token import LEEWAY, is_public_key, verify

NOW = 1_700_000_000.0

# signaling API, Protocol version "2.0"
DOCUMENT_TOKEN = (
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL25leHRjbG91ZC1tYXN0ZXIubG9jYWwvIiwiaWF0IjoxNjU0ODQyMDgw"
    "LCJleHAiOjE2NTQ4NDIzODAsInN1YiI6ImFkbWluIiwidXNlcmRhdGEiOnsiZGlzcGxheW5hbWUiOiJBZG1pbmlzdHJhdG9yIn19.5rV0jh89_0fG"
    "2L-BUPtciu1q49PoYkLboj33EOdD0qQeYcvE7_di2r5WXM1WmKUCOGeX3hzn6qldDMrJBNuxvQ"
)
DOCUMENT_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIoCsNSCXyxK25zvSKRio0uiBzwub
ONq3tiGTPZo3p2Ogn6wAhhsuSxbFuUQDWMX7Tsu9fDzVdwpRHPT4y3V9cA==
-----END PUBLIC KEY-----
"""

RSA = rsa.generate_private_key(65537, 2048)
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
ED25519 = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED25519,
}


@pytest.fixture(autouse=True, scope="module", params=["short verifier first", "PyJWT alone"])
def verifier(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "PyJWT alone":
            patch.setattr(token_module, "_USUAL_HEADERS", {})
        yield


def pem(private: Any, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    text: bytes = private.public_key().public_bytes(Encoding.PEM, form)
    return text.decode()


def raw_ed25519(private: ed25519.Ed25519PrivateKey = ED25519) -> str:
    return base64.b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def token(algorithm: str = "EdDSA", private: Any = None, **claims: Any) -> str:
    body = {"iss": "https://cloud.example.com/", "iat": NOW, "exp": NOW + 300, "sub": "alice"} | claims
    body = {name: value for name, value in body.items() if value is not ...}
    return signed(json.dumps(body).encode(), algorithm, private)


def signed(payload: bytes, algorithm: str = "EdDSA", private: Any = None, headers: dict[str, Any] | None = None) -> str:
    return jwt.PyJWS().encode(payload, private or KEYS[algorithm], algorithm=algorithm, headers=headers)


def error_code(text: str, key: str | None = None, now: float = NOW) -> str:
    with pytest.raises(TokenError) as caught:
        verify(text, raw_ed25519() if key is None else key, now)
    assert str(caught.value) == caught.value.code
    return caught.value.code


def test_example_of_the_protocol_document_verifies_at_its_time() -> None:
    assert verify(DOCUMENT_TOKEN, DOCUMENT_KEY, 1654842100) == Claims("admin", b'{"displayname":"Administrator"}')


# reference 3.3-b
@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_is_accepted_with_a_pem_key(algorithm: str) -> None:
    assert verify(token(algorithm), pem(KEYS[algorithm]), NOW) == Claims("alice", None)


# reference 3.3-c
def test_ed25519_key_as_bare_base64_is_accepted() -> None:
    assert verify(token(), raw_ed25519(), NOW).userid == "alice"


PASTED_KEYS = {
    "newline behind": lambda key: key + "\n",
    "blank line before": lambda key: "\n" + key,
    "blank lines around": lambda key: "\r\n \t\n" + key + "\r\n\r\n",
    "CRLF": lambda key: key.replace("\n", "\r\n"),
    "newline within": lambda key: key if key.startswith("-") else key[:-12] + "\n" + key[-12:],
    "folded and indented": lambda key: key.replace("\n", "\n    "),
    "spaces for line ends": lambda key: key.replace("\n", " "),
    "escaped line ends": lambda key: key.replace("\n", "\\n") + "\\n",
    "escaped CRLF, twice": lambda key: key.replace("\n", "\\\\r\\\\n"),
    "escaped slashes": lambda key: key.replace("/", "\\/"),
    "quoted": lambda key: f'"{key}"',
    "byte order mark": lambda key: "\ufeff" + key,
    "no-break spaces": lambda key: "\u00a0" + key + "\u00a0",
    "no padding": lambda key: key.replace("=", ""),
    "base64url": lambda key: key.replace("+", "-").replace("/", "_") if not key.startswith("-") else key,
    "text before": lambda key: "The key of our cloud:\n" + key if key.startswith("-") else key,
}


# reference 3.3-g
@pytest.mark.parametrize("paste", PASTED_KEYS.values(), ids=PASTED_KEYS)
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "raw", "bare DER"])
def test_key_is_accepted_as_operators_paste_it(algorithm: str, paste: Callable[[str], str]) -> None:
    private = KEYS.get(algorithm, ED25519)
    key = raw_ed25519() if algorithm == "raw" else pem(private)
    if algorithm == "bare DER":
        key = "\n".join(key.splitlines()[1:-1])
    name = algorithm if algorithm in KEYS else "EdDSA"
    assert verify(token(name), paste(key), NOW).userid == "alice"


# reference 3.3-g
@given(st.data())
def test_white_space_anywhere_in_a_bare_key_is_not_significant(data: st.DataObject) -> None:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(data.draw(st.binary(min_size=32, max_size=32)))
    space = st.sampled_from(["", " ", "\n", "\r\n", "\t", "\\n"])
    key = "".join(data.draw(space) + character for character in raw_ed25519(private)) + data.draw(space)
    assert verify(token(private=private), key, NOW).userid == "alice"


# reference 3.3-c
def test_rsa_key_in_pkcs1_is_accepted() -> None:
    assert verify(token("RS256"), pem(RSA, PublicFormat.PKCS1), NOW).userid == "alice"


# reference 3.3-c
@pytest.mark.parametrize("label", ["PUBLIC KEY", "RSA PUBLIC KEY", "ED25519 PUBLIC KEY", "ANYTHING"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_label_of_a_pem_key_is_not_significant(algorithm: str, label: str) -> None:
    key = pem(KEYS[algorithm]).replace("PUBLIC KEY", label)
    assert verify(token(algorithm), key, NOW).userid == "alice"


# reference 3.3-c
@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("other", KEYS)
def test_key_of_another_family_or_curve_is_refused(algorithm: str, other: str) -> None:
    if KEYS[algorithm] is not KEYS[other]:
        assert error_code(token(algorithm), pem(KEYS[other])) == "invalid_token"


def test_key_of_the_same_family_but_another_signer_is_refused() -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    assert error_code(token(), raw_ed25519(other)) == "invalid_token"
    assert error_code(token("RS256", rsa.generate_private_key(65537, 2048)), pem(RSA)) == "invalid_token"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "AAAA",
        "not base64!",
        "ünicode",
        "\ud800",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----",
        pem(ed448.Ed448PrivateKey.generate()),
        pem(dsa.generate_private_key(1024)),
    ],
)
@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_unusable_key_is_an_invalid_token(algorithm: str, key: str) -> None:
    assert error_code(token(algorithm), key) == "invalid_token"


def test_published_key_is_recognised_as_one() -> None:
    for key in (raw_ed25519(), pem(RSA), pem(P256)):
        assert is_public_key(key)
    for key in ("", "a" * 12, "ä", pem(RSA)[:-60], pem(ed448.Ed448PrivateKey.generate())):
        assert not is_public_key(key)


def test_ed448_signature_is_refused() -> None:
    private = ed448.Ed448PrivateKey.generate()
    assert error_code(token(private=private), pem(private)) == "invalid_token"


# reference 3.3-b
def test_algorithms_beyond_the_seven_are_refused() -> None:
    secret = "s" * 64
    assert error_code(token("HS256", secret), secret) == "invalid_token"
    assert error_code(token("PS256", RSA), pem(RSA)) == "invalid_token"
    unsigned = jwt.encode({"iat": NOW, "exp": NOW + 1}, "", algorithm="none")
    assert error_code(unsigned) == "invalid_token"
    assert error_code(unsigned, pem(RSA)) == "invalid_token"


def test_hmac_signature_with_the_public_key_as_secret_is_refused() -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    forged = part({"alg": "HS256", "typ": "JWT"}) + "." + part({"iat": NOW, "exp": NOW + 1, "sub": "root"})
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(forged.encode(), pem(RSA).encode())
    forged += "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    assert error_code(forged, pem(RSA)) == "invalid_token"


# reference 3.3-e
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iat": NOW + 61}, "token_not_valid_yet"),
        ({"nbf": NOW + 61}, "token_not_valid_yet"),
        ({"exp": NOW - 61, "iat": NOW - 100}, "token_expired"),
        ({"iat": NOW + 61, "exp": NOW - 61}, "token_not_valid_yet"),
        ({"nbf": NOW + 61, "exp": NOW - 61}, "token_not_valid_yet"),
        ({"iat": NOW, "exp": NOW - 1}, "token_expired"),
        ({"iat": ...}, "token_not_valid_yet"),
        ({"iat": None}, "token_not_valid_yet"),
        ({"iat": ..., "exp": NOW - 61}, "token_not_valid_yet"),
        ({"iat": ..., "exp": ...}, "token_not_valid_yet"),
        ({"exp": ...}, "token_expired"),
        ({"exp": None}, "token_expired"),
        ({"iat": NOW + 61, "exp": ...}, "token_not_valid_yet"),
        ({"iat": 10**300}, "token_not_valid_yet"),
        ({"iat": -(10**30)}, None),
        ({"exp": 10**300}, None),
        ({"iat": 1e308}, "token_not_valid_yet"),
        ({"iat": 10**4000}, "token_not_valid_yet"),
        ({"iat": float("nan")}, "invalid_token"),
        ({"exp": float("inf")}, "invalid_token"),
        ({"iat": "1"}, "invalid_token"),
        ({"iat": True}, "invalid_token"),
        ({"exp": []}, "invalid_token"),
        ({"nbf": {}}, "invalid_token"),
        ({"sub": 7}, "invalid_token"),
        ({"iat": NOW + LEEWAY}, None),
        ({"nbf": NOW + LEEWAY}, None),
        ({"exp": NOW - LEEWAY, "iat": NOW - 100}, None),
        ({"iat": int(NOW), "exp": int(NOW)}, None),
        ({"iat": NOW + 0.5, "exp": NOW + 0.75, "nbf": None}, None),
        ({"aud": "somebody", "iss": 7}, None),
    ],
)
def test_times_of_a_token_are_checked_in_order(claims: dict[str, Any], expected: str | None) -> None:
    if expected is None:
        assert verify(token(**claims), raw_ed25519(), NOW).userid == "alice"
    else:
        assert error_code(token(**claims)) == expected


# reference 3.3-f
def test_token_without_subject_is_anonymous() -> None:
    assert verify(token(sub=...), raw_ed25519(), NOW) == Claims("", None)
    assert verify(token(sub=None, userdata=None), raw_ed25519(), NOW) == Claims("", None)


# reference 3.3-f
def test_userdata_is_returned_byte_for_byte() -> None:
    userdata = '{ "displayname":"Jörg \\u00e4", "n" : 1.50 }'.encode()
    text = signed(b'{"userdata":' + userdata + b',"iat":%d,"exp":%d}' % (NOW, NOW + 1))
    assert verify(text, raw_ed25519(), NOW).user == userdata


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iat":' + b"9" * 9000 + b"}",
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"iat":1,"exp":2,"userdata":"\xff"}',
        b"[" * 50_000,
        b'{"a":' * 50_000,
    ],
)
def test_signed_payload_other_than_an_object_is_invalid(payload: bytes) -> None:
    assert error_code(signed(payload)) == "invalid_token"


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": ["exp"]},
        {"crit": "x"},
        {"alg": ["EdDSA"]},
        {"alg": None},
    ],
)
def test_header_with_a_critical_member_or_a_malformed_algorithm_is_refused(headers: dict[str, Any]) -> None:
    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(json.dumps({"alg": "EdDSA"} | headers).encode())
    text = head + b"." + part(b'{"iat":%d,"exp":%d}' % (NOW, NOW + 1))
    assert error_code((text + b"." + part(ED25519.sign(text))).decode()) == "invalid_token"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c", "é.é.é", "\ud800", "....", DOCUMENT_TOKEN[:-2]])
def test_malformed_token_is_invalid(text: str) -> None:
    assert error_code(text, DOCUMENT_KEY, 1654842100) == "invalid_token"


@settings(max_examples=150)
@given(text=st.text(max_size=60), key=st.sampled_from([raw_ed25519(), pem(RSA), pem(P256), ""]))
def test_any_text_raises_only_token_errors(text: str, key: str) -> None:
    assert error_code(text, key) == "invalid_token"


@settings(max_examples=150)
@given(position=st.integers(0, len(DOCUMENT_TOKEN) - 3), character=st.characters())
def test_any_changed_character_invalidates_the_token(position: int, character: str) -> None:
    changed = DOCUMENT_TOKEN[:position] + character + DOCUMENT_TOKEN[position + 1 :]
    if changed != DOCUMENT_TOKEN:
        assert error_code(changed, DOCUMENT_KEY, 1654842100) == "invalid_token"
