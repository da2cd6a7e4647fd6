"""Options of ``server.conf`` without an equivalent, with the reason or the alternative."""

from __future__ import annotations

_CLUSTER = "one process serves all clients; several cannot be joined to one service"
_PROXY = "there are no SFU proxies: Portunus is connected to each Janus itself, see [[mcu.janus]]"
_ETCD = "values are not read from etcd; write them into this file"

# section -> option -> reason; "*" stands for all others of the section
NO_EQUIVALENT: dict[str, dict[str, str]] = {
    "http": {"writetimeout": "a client that does not take its messages is limited by sessions.outbox_bytes"},
    "https": {
        "readtimeout": "limits.http_read_timeout holds for all addresses",
        "writetimeout": "a client that does not take its messages is limited by sessions.outbox_bytes",
    },
    "app": {"debug": "there are no profiling endpoints"},
    "sessions": {"blockkey": "session ids are random and contain no data that would have to be encrypted"},
    "federation": {
        "skipverify": "certificates are always checked; name your own authority in federation.certificate_authorities"
    },
    "backend": {
        "backendtype": _ETCD,
        "backendprefix": _ETCD,
        "skipverify": "certificates are always checked; add your own authority to those of the system",
    },
    "nats": {"*": _CLUSTER},
    "mcu": {
        "proxytimeout": _PROXY,
        "urltype": _PROXY,
        "skipverify": _PROXY,
        "token_id": _PROXY,
        "token_key": _PROXY,
        "dnsdiscovery": _PROXY,
        "keyprefix": _PROXY,
    },
    "continent-overrides": {
        "*": "continents for whose clients a Janus is preferred stand in its section: mcu.janus.continents"
    },
    "etcd": {"*": _ETCD},
    "grpc": {"*": _CLUSTER},
}
SECRET_OPTIONS = {"hashkey", "blockkey", "internalsecret", "secret", "apikey", "license"}
DEFAULTS = {  # values of options without equivalent for which no note is needed
    ("app", "debug"): {"false"},
    ("backend", "backendtype"): {"static"},
    ("mcu", "urltype"): {"static"},
    ("federation", "skipverify"): {"false"},
    ("backend", "skipverify"): {"false"},
    ("mcu", "skipverify"): {"false"},
    ("mcu", "dnsdiscovery"): {"false"},
    ("nats", "url"): {"nats://loopback"},
}


def reason(section: str, option: str) -> str:
    """Return why an option has no equivalent; for an unlisted option, that it is unknown."""
    known = NO_EQUIVALENT.get(section, {})
    return known.get(option) or known.get("*") or "this option is unknown"


def comment_value(option: str, value: str) -> str:
    """Return the value of an option as a comment shows it: a secret is masked."""
    return "…" if option in SECRET_OPTIONS else " ".join(value.split())
