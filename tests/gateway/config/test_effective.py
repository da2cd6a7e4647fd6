"""Effective settings with their origins, and the redaction of secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Origin, Setting, effective_settings, load_with_source
from gateway.config.effective import redacted
from tests.test_repository import configuration_keys

SECRET = "0123456789abcdef0123456789abcdef"
TEXT = f"""\
[sessions]
secret = "{SECRET}"
[[backend]]
id = "one"
urls = ["https://one.example.com/"]
secret_file = "backend-secret"
quality = {{ floor = 32000 }}
[quality]
ceiling = 500000
[mcu]
type = "janus"
[[mcu.janus]]
url = "ws://user:password@127.0.0.1:8188/?key=word"
api_secret = "of the first"
[[mcu.janus]]
url = "ws://127.0.0.1:8288"
[geoip.overrides]
"10.0.0.0/8" = "de"
[http]
listen = ["127.0.0.1:1", "127.0.0.1:2"]
"""


def effective(folder: Path, text: str = TEXT, **environ: str) -> dict[str, Setting]:
    """Load a configuration and return its effective settings by key."""
    (folder / "backend-secret").write_text("5f0c0d1e9a\n")
    path = folder / "portunus.toml"
    path.write_text(text)
    return {setting.key: setting for setting in effective_settings(*load_with_source(path, environ))}


def test_values_have_the_lines_of_their_keys(tmp_path: Path) -> None:
    settings = effective(tmp_path)
    for key, line, value in [
        ("backend[0].id", 4, "one"),
        ("backend[0].quality.floor", 7, 32000),
        ("quality.ceiling", 9, 500000),
        ("mcu.type", 11, "janus"),
        ("mcu.janus[1].url", 16, "ws://127.0.0.1:8288"),
        ("geoip.overrides", 17, {"10.0.0.0/8": "DE"}),
        ("http.listen", 20, ("127.0.0.1:1", "127.0.0.1:2")),
    ]:
        assert settings[key] == Setting(key, value, Origin(line=line))


def test_other_values_are_defaults_or_name_the_key_that_replaces_them(tmp_path: Path) -> None:
    settings = effective(tmp_path)
    assert settings["mcu.timeout"] == Setting("mcu.timeout", 10.0, Origin())
    ceiling = settings["backend[0].quality.ceiling"]
    assert (ceiling.value, ceiling.origin, ceiling.instead) == (500000, Origin(), "quality.ceiling")
    instance = settings["mcu.instance"]
    assert instance.value
    assert instance.instead == "sessions.secret and http.listen"


def test_variables_replace_whole_values_and_items_of_lists(tmp_path: Path) -> None:
    settings = effective(
        tmp_path,
        PORTUNUS_MCU__TIMEOUT="3",
        PORTUNUS_HTTP__LISTEN__1="127.0.0.1:3",
        PORTUNUS_BACKEND__0__SECRET="ab01",
        PORTUNUS_QUALITY__CEILING="700000",
    )
    assert settings["mcu.timeout"] == Setting("mcu.timeout", 3.0, Origin(variables=("PORTUNUS_MCU__TIMEOUT",)))
    listen = settings["http.listen"]
    assert listen.value == ("127.0.0.1:1", "127.0.0.1:3")
    assert listen.origin == Origin(line=20, variables=("PORTUNUS_HTTP__LISTEN__1",))
    assert settings["backend[0].secret"].origin == Origin(variables=("PORTUNUS_BACKEND__0__SECRET",))
    assert settings["quality.ceiling"].origin == Origin(variables=("PORTUNUS_QUALITY__CEILING",))


def test_value_of_a_file_names_the_line_of_its_key_and_the_file(tmp_path: Path) -> None:
    secret = effective(tmp_path)["backend[0].secret"]
    assert secret == Setting("backend[0].secret", "***", Origin(line=6, file=str(tmp_path / "backend-secret")))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    settings = effective(tmp_path)
    assert settings["sessions.secret"].value == settings["mcu.janus[0].api_secret"].value == "***"
    assert settings["internal.secret"].value == settings["mcu.janus[1].api_secret"].value == ""
    assert settings["mcu.janus[0].url"].value == "ws://***@127.0.0.1:8188/?***"
    shown = repr(settings)
    for secret in (SECRET, "5f0c0d1e9a", "of the first", "password", "word'"):
        assert secret not in shown


word = st.text("abcdefghij0123456789", min_size=8, max_size=20)


@given(word, st.sampled_from(["secret", "token", "api_secret", "admin_key", "license_key", "api_key"]))
def test_secret_of_any_text_is_redacted(secret: str, key: str) -> None:
    assert redacted(key, secret) == "***"


@given(
    word, word, st.sampled_from(["{0}@h/", "u:{0}@h/{1}", "h/?license_key={0}", "h:1/a?b={0}#{0}", "[::1", "a@{0}@h"])
)
def test_user_and_query_of_any_url_are_redacted(secret: str, path: str, form: str) -> None:
    assert secret not in str(redacted("database", "https://" + form.format(secret, path[:4])))


@pytest.mark.parametrize(
    "url", ["https://one.example.com/a", "ws://[::1]:8188", "/var/lib/x.mmdb", "turn:h?transport=udp"]
)
def test_url_without_secrets_is_shown_unchanged(url: str) -> None:
    assert redacted("url", url) == url


def test_every_key_is_shown(tmp_path: Path) -> None:
    keys = set()
    for sfu, table in [("janus", '[[mcu.janus]]\nurl = "ws://127.0.0.1"'), ("inprocess", "[mcu.inprocess]")]:
        text = TEXT.partition("[mcu]")[0] + f'[mcu]\ntype = "{sfu}"\n{table}'
        keys |= {key.replace("[0]", "") for key in effective(tmp_path, text)}
    assert keys == configuration_keys()
