"""Two verifiers of tokens: a short one for tokens of Nextcloud's usual form, and PyJWT for all others. They must agree.

Each token here is given to both by ``agreed_result``: attacks, and tokens that Hypothesis builds and mutates.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire import token as token_module
from gateway.wire.claims import Claims, TokenError
from gateway.wire.token import verify

NOW = 1_700_000_000.0
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]
RSA, SHORT_RSA = (rsa.generate_private_key(65537, bits) for bits in (2048, 1024))
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
ED25519, ED448 = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
SIGNERS: dict[str, Any] = dict(zip(ALGORITHMS, [RSA, RSA, RSA, P256, P384, P521, ED25519], strict=True))
PAYLOAD = b'{"iat":%d,"exp":%d,"sub":"alice"}' % (NOW, NOW + 300)
ALICE = Claims("alice", None)
REFUSED_TOKEN = ("invalid_token", False)
WRONG_KEY = ("invalid_token", True)


def pem(private: Any) -> str:
    text: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


KEYS = {name: pem(private) for name, private in SIGNERS.items()}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def usual_header(algorithm: str) -> bytes:
    return b'{"typ":"JWT","alg":"%s"}' % algorithm.encode()


def sign(text: str, algorithm: str, private: Any = None) -> bytes:
    key = SIGNERS[algorithm] if private is None else private
    signature: bytes = jwt.get_algorithm_by_name(algorithm).sign(text.encode(), key)
    return signature


def signed_token(
    algorithm: str = "ES256", header: bytes | None = None, payload: bytes = PAYLOAD, private: Any = None
) -> str:
    """Return a token with a signature of ``algorithm``, whatever its header says."""
    text = f"{base64url(usual_header(algorithm) if header is None else header)}.{base64url(payload)}"
    return f"{text}.{base64url(sign(text, algorithm, private))}"


@contextmanager
def pyjwt_alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_module, "_USUAL_HEADERS", {})
        yield


def result_of(text: str, key: str, now: float) -> Claims | tuple[str, bool]:
    try:
        return verify(text, key, now)
    except TokenError as error:
        return error.code, error.other_key


def agreed_result(text: str, key: str, now: float = NOW) -> Claims | tuple[str, bool]:
    """Return the claims, or code and ``other_key`` of the error, after checking that both verifiers have the same."""
    first = result_of(text, key, now)
    with pyjwt_alone():
        assert result_of(text, key, now) == first
    return first


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ['{"typ":"JWT","alg":"?"}', '{"alg":"?","typ":"JWT"}'])
def test_token_of_the_usual_form_is_verified_without_pyjwts_parser(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, form: str
) -> None:
    text = signed_token(algorithm, form.replace("?", algorithm).encode())
    forged = signed_token(algorithm, private={"R": RSA, "E": SIGNERS[algorithm]}[algorithm[0]])[:-4] + "AAAA"
    monkeypatch.setattr(token_module, "_payload_by_pyjwt", None)  # a call would be a TypeError, and the token invalid
    assert result_of(text, KEYS[algorithm], NOW) == ALICE
    assert result_of(forged, KEYS[algorithm], NOW) == WRONG_KEY


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES256"}',
        b'{ "typ": "JWT", "alg": "ES256" }',
        b'{"typ":"JWT","alg":"ES256","kid":"1"}',
        b'{"typ":"JWT","alg":"ES256","jku":"https://attacker.example.com/keys"}',
        b'{"typ":"JWT","alg":"ES256","x5u":"https://attacker.example.com/chain","x5c":["AAAA"]}',
        b'{"typ":"JWT","alg":"ES256","b64":true}',
        b'{"alg":"none","typ":"JWT","alg":"ES256"}',
        b'{"typ":"JWT","alg":"HS256","alg":"ES256"}',
        b'{"typ":"JWT","\\u0061lg":"ES256"}',
    ],
)
def test_other_header_with_a_valid_signature_is_accepted_and_its_members_ignored(header: bytes) -> None:
    assert agreed_result(signed_token(header=header), KEYS["ES256"]) == ALICE


@pytest.mark.parametrize(
    "header",
    [
        b'{"typ":"JWT","alg":"none"}',
        b'{"typ":"JWT","alg":"None"}',
        b'{"typ":"JWT","alg":"NONE"}',
        b'{"typ":"JWT","alg":""}',
        b'{"typ":"JWT","alg":null}',
        b'{"typ":"JWT","alg":["ES256"]}',
        b'{"typ":"JWT","alg":"es256"}',
        b'{"typ":"JWT","alg":"ES256 "}',
        b'{"typ":"JWT","alg":"ES256K"}',
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"typ":"JWT","alg":"PS256"}',
        b'{"typ":"JWT"}',
        b'{"typ":"JWT","alg":"ES256","alg":"none"}',
        b'{"typ":"JWT","alg":"ES256","kid":7}',
        b'{"typ":"JWT","alg":"ES256","kid":null}',
        b'{"typ":"JWT","alg":"ES256","b64":false}',
        b'{"typ":"JWT","alg":"ES256","b64":false,"crit":["b64"]}',
        b'{"typ":"JWT","alg":"ES256","crit":[]}',
        b'{"typ":"JWT","alg":"ES256","crit":["exp"]}',
        b'{"typ":"JWT","alg":"ES256","crit":["b64"]}',
        b'{"typ":"JWT","alg":"ES256","crit":"b64"}',
        b'["typ","JWT","alg","ES256"]',
        b'"ES256"',
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_header_of_another_algorithm_or_critical_member_is_refused(header: bytes) -> None:
    assert agreed_result(signed_token(header=header), KEYS["ES256"]) == REFUSED_TOKEN


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["none", "HS256", "HS384", "HS512"])
def test_token_signed_with_nothing_or_with_the_public_key_as_secret_is_refused(algorithm: str, name: str) -> None:
    key = KEYS[algorithm]
    der = base64.b64decode("".join(key.splitlines()[1:-1]))
    for secret in (key.encode(), key.strip().encode(), der, der[-32:]):
        text = f"{base64url(usual_header(name))}.{base64url(PAYLOAD)}"
        mac = b"" if name == "none" else hmac.digest(secret, text.encode(), f"sha{name[2:]}")
        assert agreed_result(f"{text}.{base64url(mac)}", key) == REFUSED_TOKEN
        relabelled = f"{base64url(usual_header(algorithm))}.{base64url(PAYLOAD)}"
        assert agreed_result(f"{relabelled}.{base64url(mac)}", key) == WRONG_KEY


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_ecdsa_signature_of_another_length_or_in_der_is_refused(algorithm: str) -> None:
    text = f"{base64url(usual_header(algorithm))}.{base64url(PAYLOAD)}"
    raw = sign(text, algorithm)
    half = len(raw) // 2
    curve = SIGNERS[algorithm].curve
    der = jwt.utils.raw_to_der_signature(raw, curve)
    widened = b"\0" + raw[:half] + b"\0" + raw[half:]
    of_another_text = sign("", algorithm)
    for signature in (
        *(raw[:cut] for cut in (0, 1, half, len(raw) - 1)),
        *(raw + b"\0", b"\0" + raw, widened, raw + raw, der, of_another_text),
        *(bytes(len(raw)), raw[:half] + bytes(half), bytes(half) + raw[half:], b"\xff" * len(raw)),
    ):
        assert agreed_result(f"{text}.{base64url(signature)}", KEYS[algorithm]) == WRONG_KEY
    assert agreed_result(f"{text}.{base64url(raw)}", KEYS[algorithm]) == ALICE


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_rsa_and_ed25519_signature_of_another_length_is_refused(algorithm: str) -> None:
    text = f"{base64url(usual_header(algorithm))}.{base64url(PAYLOAD)}"
    raw = sign(text, algorithm)
    for signature in (b"", raw[:-1], raw[1:], raw + b"\0", b"\0" + raw, raw + raw, bytes(len(raw)), raw * 1000):
        assert agreed_result(f"{text}.{base64url(signature)}", KEYS[algorithm]) == WRONG_KEY


@pytest.mark.parametrize("place", [0, 1, 2])
def test_base64_of_another_form_is_refused_though_it_encodes_the_same_bytes(place: int) -> None:
    payload = PAYLOAD + b" " * ((1 - len(PAYLOAD)) % 3)  # one byte beyond a multiple of three: four bits are left over
    header = usual_header("ES256")
    assert len(header) % 3 == 0
    segments = signed_token(header=header + b" " * (place == 0), payload=payload).split(".")
    good = segments[place]
    assert agreed_result(".".join(segments), KEYS["ES256"]) == ALICE
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    left_over = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    assert base64.urlsafe_b64decode(left_over + "==") == base64.urlsafe_b64decode(good + "==")
    others = [left_over, good + "=", good + "===", good + " ", " " + good, good[:4] + "\n" + good[4:], good + "\0"]
    others += [good + "A", good[:-1], good + "\u00e9", good + "\ud800", good[:4] + "==" + good[4:], good + "%3D%3D", ""]
    for other in others:
        changed = [*segments[:place], other, *segments[place + 1 :]]
        assert isinstance(agreed_result(".".join(changed), KEYS["ES256"]), tuple), other


def test_padded_token_is_treated_as_pyjwt_does() -> None:
    segments = signed_token(payload=PAYLOAD + b" " * ((1 - len(PAYLOAD)) % 3)).split(".")
    for place in range(3):
        changed = [text + "=" * (-len(text) % 4 if index == place else 0) for index, text in enumerate(segments)]
        agreed_result(".".join(changed), KEYS["ES256"])
        agreed_result(".".join(changed) + "=", KEYS["ES256"])


def test_standard_base64_is_refused() -> None:
    for number in range(10_000):
        payload = PAYLOAD[:-1] + b',"n":"%d\xc3\xbf\xc3\xbf\xc3\xbe?>~~"}' % number
        text = signed_token("EdDSA", payload=payload)
        changed = text.replace("-", "+").replace("_", "/")
        assert agreed_result(text, KEYS["EdDSA"]) == ALICE
        if "+" in changed and "/" in changed:
            assert agreed_result(changed, KEYS["EdDSA"]) == REFUSED_TOKEN
            return
    pytest.fail("no token with both characters")


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a", "{0}", "{0}.", "{0}..", "{0}.{1}", "{0}.{1}.", ".{1}.{2}"])
@pytest.mark.parametrize("suffix", ["", ".", ".AAAA", "\0", "\u00e9", "\ud800"])
def test_token_without_three_segments_is_refused(text: str, suffix: str) -> None:
    assert isinstance(agreed_result(text.format(*signed_token().split(".")) + suffix, KEYS["ES256"]), tuple)


@pytest.mark.parametrize("suffix", [".", ".AAAA", "..", " ", "\n", "\0"])
def test_valid_token_with_anything_behind_it_is_refused(suffix: str) -> None:
    assert isinstance(agreed_result(signed_token() + suffix, KEYS["ES256"]), tuple)
    assert isinstance(agreed_result(suffix + signed_token(), KEYS["ES256"]), tuple)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", [RSA, P256, P384, P521, ED25519, ED448], ids=lambda key: type(key).__name__)
def test_key_of_another_type_or_curve_is_refused_as_one_that_may_be_renewed(algorithm: str, key: Any) -> None:
    expected = ALICE if key is SIGNERS[algorithm] else WRONG_KEY
    assert agreed_result(signed_token(algorithm), pem(key)) == expected


def test_curve_and_algorithm_that_do_not_belong_together_are_refused_even_with_a_valid_signature() -> None:
    text = f"{base64url(usual_header('ES256'))}.{base64url(PAYLOAD)}"
    der = P384.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    signature = jwt.utils.der_to_raw_signature(der, P384.curve)
    assert agreed_result(f"{text}.{base64url(signature)}", pem(P384)) == WRONG_KEY
    text = f"{base64url(usual_header('EdDSA'))}.{base64url(PAYLOAD)}"
    assert agreed_result(f"{text}.{base64url(ED448.sign(text.encode()))}", pem(ED448)) == WRONG_KEY


@pytest.mark.parametrize("key", ["", "AAAA", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_unusable_key_is_refused_each_time(key: str) -> None:
    for _ in range(2):
        assert agreed_result(signed_token(), key) == WRONG_KEY
    assert agreed_result("a.b.c", key) == REFUSED_TOKEN


@pytest.mark.filterwarnings("error")
def test_short_rsa_key_is_verified_by_pyjwt_which_warns() -> None:
    with pytest.warns(UserWarning, match="1024 bits"):
        assert verify(signed_token("RS256", private=SHORT_RSA), pem(SHORT_RSA), NOW) == ALICE
    assert verify(signed_token("RS256"), KEYS["RS256"], NOW) == ALICE


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_signer_of_the_same_type_and_its_key_in_the_header_are_refused(algorithm: str) -> None:
    other: Any = ed25519.Ed25519PrivateKey.generate()
    if algorithm != "EdDSA":
        signer = SIGNERS[algorithm]
        other = SHORT_RSA if signer is RSA else ec.generate_private_key(signer.curve)
    assert agreed_result(signed_token(algorithm, private=other), KEYS[algorithm]) == WRONG_KEY
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(other.public_key(), as_dict=True)
    header = json.dumps({"typ": "JWT", "alg": algorithm, "jwk": jwk, "kid": "1"}).encode()
    assert agreed_result(signed_token(algorithm, header, private=other), KEYS[algorithm]) == WRONG_KEY


def test_payload_of_megabytes_is_verified_or_refused_by_its_signature_alone() -> None:
    payload = PAYLOAD[:-1] + b',"n":"' + b"x" * 4_000_000 + b'"}'
    assert agreed_result(signed_token(payload=payload), KEYS["ES256"]) == ALICE
    assert agreed_result(signed_token(payload=payload)[:-4] + "AAAA", KEYS["ES256"]) == WRONG_KEY
    assert agreed_result("." * 1_000_000, KEYS["ES256"]) == REFUSED_TOKEN
    assert agreed_result(signed_token() + ".A" * 1_000_000, KEYS["ES256"]) == REFUSED_TOKEN


TIMES = [NOW, int(NOW), NOW - 61, NOW + 61, NOW + 60, NOW - 60, 0, -1, 0.5, 10**300, -(10**300), 1e308, None]
ODD_TIMES = ["1", "", True, False, float("nan"), float("inf"), [], [NOW], {}, {"a": 1}]
times = st.sampled_from([..., *TIMES, *ODD_TIMES])
claims = st.fixed_dictionaries(
    {
        "iat": st.one_of(st.just(NOW), times),
        "exp": st.one_of(st.just(NOW + 300), times),
        "nbf": st.one_of(st.just(...), times),
        "sub": st.sampled_from(["alice", "", None, ..., 7, ["alice"], "\ud800", "\0"]),
        "aud": st.sampled_from([..., "somebody", ["a", "b"], [], 7, None]),
        "userdata": st.sampled_from([..., None, {"displayname": "Alice"}, "text", []]),
    }
).map(lambda members: json.dumps({name: value for name, value in members.items() if value is not ...}).encode())
payloads = st.one_of(
    st.just(PAYLOAD),
    claims,
    claims.map(lambda text: text[:-1] + b',"iat":1,"exp":2,"exp":%d}' % (NOW + 5)),
    st.binary(max_size=40),
)
headers = st.one_of(
    st.none(),
    st.none(),
    st.sampled_from(ALGORITHMS).map(usual_header),
    st.sampled_from(["crit", "b64", "kid", "jku", "jwk", "alg", "typ"]).flatmap(
        lambda name: st.sampled_from([None, False, True, 7, "b64", "none", "ES256", ["b64"], [], {}]).map(
            lambda value: usual_header("ES256")[:-1] + b',"%s":%s}' % (name.encode(), json.dumps(value).encode())
        )
    ),
)


@st.composite
def changed_tokens(draw: st.DrawFn) -> tuple[str, str, float]:
    """Return a signed token with up to three changes, a key, and a time in seconds."""
    algorithm = draw(st.sampled_from(ALGORITHMS))
    text = signed_token(algorithm, draw(headers), draw(payloads))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        match draw(st.integers(0, 4)):
            case 0:
                text = text[:at] + draw(st.sampled_from([*"=+/ .-_AZ\n\0\u00e9\ud800", ""])) + text[at + 1 :]
            case 1:
                text = text[:at] + draw(st.sampled_from(["=", "==", ".", "..", "A", " ", "\u00e9"])) + text[at:]
            case 2:
                text = text[:at]
            case 3:
                segments = text.split(".")
                text = ".".join(draw(st.permutations(segments)))
            case _:
                text += draw(st.sampled_from(["=", "==", "A", ".", "\n"]))
    key = draw(st.sampled_from([KEYS[algorithm], KEYS[algorithm], KEYS[algorithm], *KEYS.values(), pem(ED448), ""]))
    return text, key, draw(st.sampled_from([NOW, NOW, NOW - 400, NOW + 400, 0.0]))


@settings(max_examples=600, deadline=None)
@given(case=changed_tokens())
@example(case=(signed_token(), KEYS["ES256"], NOW))
@example(case=(signed_token(payload=b""), KEYS["ES256"], NOW))
def test_both_verifiers_have_the_same_result(case: tuple[str, str, float]) -> None:
    agreed_result(*case)


@settings(max_examples=200, deadline=None)
@given(payload=claims, algorithm=st.sampled_from(ALGORITHMS))
def test_both_verifiers_check_the_claims_alike(payload: bytes, algorithm: str) -> None:
    agreed_result(signed_token(algorithm, payload=payload), KEYS[algorithm])
