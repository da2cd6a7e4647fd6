"""The token of a hello 2.0: a JWT that Nextcloud signed, verified locally.

Source: reference 3.3; signaling API, Protocol version "2.0"; RFC 7515, RFC 7518, RFC 8037.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import lru_cache, partial

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from msgspec import Raw, Struct

from gateway.wire.claims import INVALID_TOKEN, NOT_YET, TOKEN_EXPIRED, Claims, TokenError

RAW_ED25519 = 32  # bytes of a key without its type (RFC 8032)
MIN_RSA_BITS = 2048  # RFC 7518, 3.3; a shorter key is left to PyJWT, which warns of it
LEEWAY = 60.0  # seconds of clock difference to Nextcloud that are tolerated (reference 3.3, step 6)


_KEY_TYPES: dict[str, type[RSAPublicKey] | type[EllipticCurvePublicKey] | type[Ed25519PublicKey]] = {
    "RS256": RSAPublicKey,
    "RS384": RSAPublicKey,
    "RS512": RSAPublicKey,
    "ES256": EllipticCurvePublicKey,
    "ES384": EllipticCurvePublicKey,
    "ES512": EllipticCurvePublicKey,
    "EdDSA": Ed25519PublicKey,
}

_PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class _Payload(Struct, frozen=True):
    iat: int | float | None = None
    nbf: int | float | None = None
    exp: int | float | None = None
    sub: str | None = None
    userdata: Raw = Raw()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# The headers of usual tokens, encoded, and their algorithms: those of Nextcloud's and of PyJWT's tokens.
_USUAL_HEADERS = {
    _encoded(form.replace(b"?", name.encode())): name
    for name in _KEY_TYPES
    for form in (b'{"typ":"JWT","alg":"?"}', b'{"alg":"?","typ":"JWT"}')
}
_jws = jwt.PyJWS(algorithms=list(_KEY_TYPES))
_decoder = msgspec.json.Decoder(_Payload)
_pem = re.compile(r"-----BEGIN [^-]*-----(.*?)-----END [^-]*-----", re.DOTALL)
_paste_artifacts = re.compile(r"\\+[nrt]|\\+(?=/)|[\s\ufeff\u200b\"']")  # line ends, also escaped ones, spaces, quotes
_base64url = str.maketrans("-_", "+/")


def verify(token: str, key: str, now: float) -> Claims:
    """Verify the signature and times of a token and return its claims.

    ``key`` is Nextcloud's ``hello-v2-token-key``: a PEM public key with any label, or the base64 of a raw Ed25519 key
    or of a DER key. ``now`` is unix time in seconds. The issuer is not checked: the URL in the message selected the
    backend.

    Raises:
        TokenError: with ``invalid_token``, ``token_not_valid_yet`` or ``token_expired``.
    """
    try:
        text = _usual_payload(token, key)
        if text is None:
            text = _payload_by_pyjwt(token, key)
        text.decode()  # ``userdata`` is sent to other clients in text frames
        payload = _decoder.decode(text)
    except (jwt.InvalidSignatureError, jwt.InvalidKeyError) as error:
        raise TokenError(INVALID_TOKEN, other_key=True) from error
    # ValueError: invalid UTF-8 or base64, and all errors of msgspec; RecursionError: nested too deeply.
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(INVALID_TOKEN) from error
    _check_times(payload, now)
    user = bytes(payload.userdata)
    return Claims(userid=payload.sub or "", user=None if user in (b"", b"null") else user)


def is_public_key(key: str) -> bool:
    """Return whether a ``hello-v2-token-key`` is a key of one of the supported types."""
    try:
        _public_key(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _usual_payload(token: str, key: str) -> bytes | None:
    """Verify the signature of a token with usual header and encoding, and return its payload.

    None: the token has another form, and is left to PyJWT. Headers are compared as a whole, so that a token with any
    other member is left to PyJWT, too. The result is that of PyJWT, in half of the time or less.
    """
    header, *segments = token.split(".", 3)
    algorithm = _USUAL_HEADERS.get(header)
    if algorithm is None or len(segments) != 2:
        return None
    payload, signature = (_decode_canonical(segment) for segment in segments)
    if payload is None or signature is None:
        return None
    verify_signature = _signature_check(key, algorithm)
    if verify_signature is None:
        return None
    if not verify_signature(f"{header}.{segments[0]}".encode(), sig=signature):
        raise jwt.InvalidSignatureError
    return payload


def _decode_canonical(segment: str) -> bytes | None:
    """Decode canonical base64url (RFC 4648, 3.5) without padding; None: the text has another form."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        return None
    return data if _encoded(data) == segment else None


@lru_cache(maxsize=64)
def _signature_check(key: str, algorithm: str) -> Callable[..., bool] | None:
    """Return PyJWT's check of a signature (``msg``, ``sig``: bytes) with a key; None: a short RSA key.

    Raises:
        TokenError, jwt.InvalidKeyError: the key is unusable, or does not belong to the algorithm.
    """
    public = _key_for(key, algorithm)
    if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        return None
    checker = _jws.get_algorithm_by_name(algorithm)
    return partial(checker.verify, key=checker.prepare_key(public))


def _payload_by_pyjwt(token: str, key: str) -> bytes:
    algorithm = jwt.get_unverified_header(token).get("alg")
    if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES:
        raise TokenError(INVALID_TOKEN)
    public = _key_for(key, algorithm)
    payload: bytes = _jws.decode_complete(token, public, algorithms=[algorithm])["payload"]
    return payload


def _check_times(payload: _Payload, now: float) -> None:
    iat, nbf, exp = payload.iat, payload.nbf, payload.exp
    if iat is None or iat > now + LEEWAY or (nbf is not None and nbf > now + LEEWAY):
        raise TokenError(NOT_YET)
    if exp is None or exp < now - LEEWAY or exp < iat:
        raise TokenError(TOKEN_EXPIRED)


def _key_for(key: str, algorithm: str) -> _PublicKey:
    """Parse a key for a signature algorithm.

    Raises:
        TokenError: the key is unusable, or does not belong to the algorithm.
    """
    try:
        public = _public_key(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TokenError(INVALID_TOKEN, other_key=True) from error
    if not isinstance(public, _KEY_TYPES[algorithm]):
        raise TokenError(INVALID_TOKEN, other_key=True)
    return public


@lru_cache(maxsize=64)  # one key per Nextcloud; parsing costs more than verifying an Ed25519 signature
def _public_key(key: str) -> _PublicKey:
    """Parse a key as pasted by operators: with spaces and line ends anywhere, base64 or base64url, padded or not."""
    match = _pem.search(key)
    der = _decoded(key if match is None else match[1])
    if match is None and len(der) == RAW_ED25519:
        return Ed25519PublicKey.from_public_bytes(der)
    public = load_der_public_key(der)  # PKIX, or PKCS#1 for RSA
    if not isinstance(public, _PublicKey):
        raise ValueError("neither RSA nor EC nor Ed25519")
    return public


def _decoded(text: str) -> bytes:
    digits = _paste_artifacts.sub("", text).translate(_base64url).rstrip("=")
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
