"""Loading the configuration, and the error texts for wrong files and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, SessionsSection, listen_address, load
from gateway.config.sections import NextcloudSection
from gateway.core.backends import COMPAT
from tests.gateway.certificates import make_certificate
from tests.gateway.config.loading import MINIMAL, SECRET, read, refusal


# reference 14.2-b
def test_minimal_file_gets_the_documented_defaults(path: Path) -> None:
    config = read(path)
    assert config.http.listen == ("127.0.0.1:8080",)
    assert config.http.trusted_proxies == ("127.0.0.0/8", "::1/128")
    assert config.sessions.outbox_bytes == 8_388_608
    assert (config.nextcloud.timeout, config.nextcloud.connections_per_host) == (10.0, 8)
    assert (config.mcu.type, config.mcu.settings, config.mcu.timeout) == ("none", None, 10.0)
    assert (config.mcu.max_stream_bitrate, config.mcu.max_screen_bitrate) == (1_048_576, 2_097_152)
    assert config.stats.allowed == ("127.0.0.1/32", "::1/128")
    assert config.compat is None
    (backend,) = config.backends
    assert (backend.id, backend.urls, backend.secret) == ("cloud", ("https://cloud.example.com/",), "5f0c0d1e9a")


def test_values_of_the_file_replace_the_defaults(path: Path) -> None:
    certificate, key = make_certificate(path.parent)
    config = read(
        path,
        f"""
[http]
listen = ["0.0.0.0:8080", "[::1]:8443", "/run/portunus.sock"]
trusted_proxies = ["10.1.2.3/8"]
certificate = "{certificate}"
key = "{key}"
[sessions]
secret = "{SECRET}"
outbox_bytes = 65536
[nextcloud]
timeout = 5
connections_per_host = 2
allow_any = true
secret = "5f0c0d1e9a"
[[backend]]
id = "a"
urls = ["https://a/", "http://a/"]
secret = "aaaa"
session_limit = 1
max_stream_bitrate = 2
max_screen_bitrate = 3
[[backend]]
id = "b"
urls = ["https://b/"]
secret = "bbbb"
[mcu]
type = "janus"
timeout = 2.5
max_stream_bitrate = 0
max_screen_bitrate = 1
allowed_candidates = ["192.168.0.0/16"]
blocked_candidates = ["::/0"]
[[mcu.janus]]
url = "ws://127.0.0.1:8188"
api_secret = "janusrocks"
[stats]
allowed = ["192.168.1.1"]
""",
    )
    assert config.http.trusted_proxies == ("10.0.0.0/8",)
    assert config.nextcloud.timeout == 5.0
    assert config.compat is not None
    assert (config.compat.id, config.compat.secret) == (COMPAT, "5f0c0d1e9a")
    assert [backend.id for backend in config.backends] == ["a", "b"]
    assert [server.url for server in config.mcu.settings] == ["ws://127.0.0.1:8188"]
    assert config.mcu.settings[0].api_secret == "janusrocks"
    assert config.mcu.blocked_candidates == ("::/0",)


# reference 3.7-h
@pytest.mark.parametrize(("configured", "places"), [(1, 2), (2, 2), (8, 8)])
def test_backend_gets_two_requests_at_once_at_least(configured: int, places: int) -> None:
    assert NextcloudSection(connections_per_host=configured).places == places


def test_secrets_are_masked_when_the_configuration_is_printed(path: Path) -> None:
    config = read(
        path,
        MINIMAL + '[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "ws://h"\ntoken = "tok3n"\nadmin_key = "adm1n"\n',
        PORTUNUS_NEXTCLOUD__SECRET="0ther",
        PORTUNUS_NEXTCLOUD__ALLOW_ANY="true",
    )
    printed = f"{config!r} {config} {config.backends} {config.compat}"
    assert not [secret for secret in (SECRET, "5f0c0d1e9a", "tok3n", "adm1n", "0ther") if secret in printed]
    assert "***" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[htp]\nlisten = []", "FILE: htp is unknown; did you mean http?"),
        ("[http]\nlistn = []", "FILE: http.listn is unknown; did you mean http.listen?"),
        ("listen = ['x']", "FILE: listen is unknown; did you mean http.listen?"),
        ("[mcu]\nsettings = 1", "FILE: mcu.settings is unknown; did you mean mcu."),
        (
            "[mcu]\ntype = 'janus'\n[[mcu.janus]]\nulr = 'ws://h'",
            "FILE: mcu.janus[0].ulr is unknown; did you mean mcu.janus[0].url?",
        ),
        (
            "[[backend]]\nid = 'a'\nsecrets = 'x'",
            "FILE: backend[0].secrets is unknown; did you mean backend[0].secret?",
        ),
        ("[recording]\nx = 1", "FILE: recording is unknown; did you mean "),
        ("[geoip]\noverride = {}", "FILE: geoip.override is unknown; did you mean geoip.overrides?"),
        ("[geoip]\noverrides = 'x'", "FILE: geoip.overrides: expected a table, got a text"),
        ("[geoip.overrides]\n'10.0.0.0/8' = 1", "FILE: geoip.overrides[...]: expected a text, got an integer"),
        ("[http]\nlisten_file = 'x'", "FILE: http.listen_file is unknown; did you mean http.listen?"),
        ("[[backend]]\nurls = []", "FILE: backend[0].id: is missing"),
        ("[http]\nlisten = 'x'", "FILE: http.listen: expected a list, got a text"),
        ("[http]\nlisten = [1]", "FILE: http.listen[0]: expected a text, got an integer"),
        ("http = 1", "FILE: http: expected a table, got an integer"),
        ("mcu = 1", "FILE: mcu: expected a table, got an integer"),
        ("[nextcloud]\ntimeout = true", "FILE: nextcloud.timeout: expected a number, got true or false"),
        ("[nextcloud]\ntimeout = 0", "FILE: nextcloud.timeout: expected a number > 0.0"),
        ("[nextcloud]\nconnections_per_host = 0", "FILE: nextcloud.connections_per_host: expected an integer >= 1"),
        ("[mcu]\nmax_stream_bitrate = -1", "FILE: mcu.max_stream_bitrate: expected an integer >= 0"),
        ("http]", "FILE: not TOML: "),
        ("[[mcu.janus]]\nurl = 7", "FILE: mcu.janus[0].url: expected a text, got an integer"),
        ("[mcu.inprocess]\naddress = 7", "FILE: mcu.inprocess.address: "),
    ],
)
def test_unknown_key_or_wrong_type_is_named(path: Path, text: str, expected: str) -> None:
    assert refusal(path, text + MINIMAL).startswith(expected)


# reference 3.6-d
def test_missing_section_or_key_is_named(path: Path) -> None:
    assert refusal(path, "") == "FILE: sessions: is missing"
    assert refusal(path, "[sessions]") == "FILE: sessions.secret: is missing"
    assert refusal(path, MINIMAL.replace("[[backend]]", "[[backend]]\nid = 'b'\n[[backend]]")).startswith(
        "FILE: backend[0]."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[http]\nlisten = []", "FILE: http.listen: needs at least one address"),
        ("[http]\nlisten = ['8080']", 'FILE: http.listen[0]: "8080": expected "host:port"'),
        ("[http]\nlisten = ['h:1', 'h:70000']", 'FILE: http.listen[1]: "h:70000": expected'),
        ("[http]\ncertificate = 'x'", "FILE: http.key: is missing, http.certificate is given; TLS needs both"),
        ("[http]\nkey = 'x'", "FILE: http.certificate: is missing, http.key is given; TLS needs both"),
        ("[http]\ntrusted_proxies = ['localhost']", 'FILE: http.trusted_proxies[0]: "localhost" is neither'),
        ("[stats]\nallowed = ['::1', '1.2.3']", 'FILE: stats.allowed[1]: "1.2.3" is neither'),
        ("[mcu]\nblocked_candidates = ['x']", "FILE: mcu.blocked_candidates[0]: "),
        ("[mcu]\nallowed_candidates = ['10.0.0.0/33']", "FILE: mcu.allowed_candidates[0]: "),
        ("[mcu]\ninstance = 'a|b'", "FILE: mcu.instance: may contain only letters, digits"),
        ("[mcu]\ntype = 'jitsi'", "FILE: mcu.type: expected one of janus, inprocess, none"),
        ("[mcu]\ntype = 'janus'", "FILE: mcu.type: is janus, but there is no [[mcu.janus]]"),
        (
            "[mcu]\ntype = 'janus'\n[[mcu.janus]]\nurl = 'ws://a'\n[[mcu.janus]]\nurl = 'ws://a'",
            "FILE: mcu.janus: two [[mcu.janus]] have the url ws://a",
        ),
        ("[nextcloud]\nallow_any = true", "FILE: nextcloud.secret: is empty or a placeholder"),
        ("[internal]\nsecret = 'changeme'", "FILE: internal.secret: is a placeholder"),
        ("[[backend]]\nid = ''\nurls = ['https://h']\nsecret = 'abc'", "FILE: backend[0].id: must not be empty"),
        ("[[backend]]\nid = 'compat'\nurls = ['https://h']\nsecret = 'abc'", "FILE: backend[0].id: must not be empty"),
        ("[[backend]]\nid = 'a'\nurls = []\nsecret = 'abc'", "FILE: backend[0].urls: needs at least one URL"),
        ("[[backend]]\nid = 'a'\nurls = ['https://h']\nsecret = ''", "FILE: backend[0].secret: is empty"),
        (
            "[[backend]]\nid = 'a'\nurls = ['https://h']\nsecret = '…'",
            "FILE: backend[0].secret: is empty or a placeholder",
        ),
        (
            "[[backend]]\nid = 'a'\nurls = ['h']\nsecret = 'abc'",
            "FILE: backend[0].urls[0]: not an absolute http or https URL",
        ),
        (
            "[[backend]]\nid = 'cloud'\nurls = ['https://h']\nsecret = 'abc'",
            'FILE: backend: two backends have the id "cloud"',
        ),
        (
            "[[backend]]\nid = 'a'\nurls = ['https://cloud.example.com:443']\nsecret = 'abc'",
            'FILE: backend: backends "a" and "cloud" have the same URL https://cloud.example.com/',
        ),
        (
            "[[backend]]\nid = 'a'\nurls = ['https://h']\nsecret = 'abc'\nsession_limit = -1",
            "FILE: backend[0].session_limit: must not be negative",
        ),
    ],
)
def test_invalid_value_is_named(path: Path, text: str, expected: str) -> None:
    assert refusal(path, text + MINIMAL).startswith(expected)


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ("", "32 bytes"),
        ("ab" * 16, "placeholder"),
        ("0123456789abcdef", "32 bytes"),
        ("change-me-" * 4, "placeholder"),
        ("x" * 64, "placeholder"),
    ],
)
def test_weak_session_secret_is_refused(path: Path, secret: str, word: str) -> None:
    sentence = refusal(path, MINIMAL.replace(SECRET, secret))
    assert sentence.startswith("FILE: sessions.secret: ")
    assert word in sentence


def test_configuration_without_a_backend_is_refused(path: Path) -> None:
    assert refusal(path, f'[sessions]\nsecret = "{SECRET}"').startswith("FILE: backend: is missing")


def test_error_for_a_missing_file_is_one_sentence(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"portunus.toml: cannot be read \(No such file or directory\)"):
        load(path, {})


def test_byte_order_mark_is_named(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf[http]\n")
    with pytest.raises(ConfigError, match="begins with a byte order mark; save it as UTF-8 without one"):
        load(path, {})


@pytest.mark.parametrize("content", [b"\xff", b"a = " + b"[" * 5000, b"\x00"])
def test_error_for_a_file_that_is_not_toml_is_one_sentence(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"portunus\.toml: "):
        load(path, {})


# --- the environment


def test_environment_overrides_the_file(path: Path) -> None:
    config = read(
        path,
        PORTUNUS_HTTP__LISTEN="127.0.0.1:1, [::1]:2",
        PORTUNUS_HTTP__TRUSTED_PROXIES='["10.0.0.0/8"]',
        PORTUNUS_NEXTCLOUD__TIMEOUT="2.5",
        PORTUNUS_NEXTCLOUD__CONNECTIONS_PER_HOST="3",
        PORTUNUS_NEXTCLOUD__ALLOW_ANY="Yes",
        PORTUNUS_NEXTCLOUD__SECRET="abc",
        PORTUNUS_BACKEND__0__SECRET="other",
        PORTUNUS_BACKEND__1__ID="second",
        PORTUNUS_BACKEND__1__URLS="https://second/",
        PORTUNUS_BACKEND__1__SECRET="5ec0nd",
        PORTUNUS_MCU__TYPE="inprocess",
        PORTUNUS_MCU__INPROCESS__ADDRESS="127.0.0.1,::1",
        PORTUNUS_CONFIG="ignored: names no key",
        OTHER__THING="ignored",
    )
    assert config.http.listen == ("127.0.0.1:1", "[::1]:2")
    assert config.http.trusted_proxies == ("10.0.0.0/8",)
    assert config.nextcloud.timeout == 2.5
    assert config.nextcloud.connections_per_host == 3
    assert config.nextcloud.allow_any
    assert [(backend.id, backend.secret) for backend in config.backends] == [("cloud", "other"), ("second", "5ec0nd")]
    assert config.mcu.settings.addresses == ("127.0.0.1", "::1")


def test_all_values_can_come_from_the_environment(path: Path) -> None:
    config = read(
        path,
        "",
        PORTUNUS_SESSIONS__SECRET=SECRET,
        PORTUNUS_BACKEND__0__ID="a",
        PORTUNUS_BACKEND__0__URLS="https://a",
        PORTUNUS_BACKEND__0__SECRET="abc",
        PORTUNUS_MCU__TYPE="janus",
        PORTUNUS_MCU__JANUS__0__URL="ws://127.0.0.1:1",
        PORTUNUS_STATS__ALLOWED="[]",
    )
    assert config.backends[0].id == "a"
    assert config.mcu.settings[0].url == "ws://127.0.0.1:1"
    assert config.stats.allowed == ()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PORTUNUS_HTTP__LISTN", "x", "PORTUNUS_HTTP__LISTN is unknown; did you mean PORTUNUS_HTTP__LISTEN?"),
        ("PORTUNUS_HTP__LISTEN", "x", "PORTUNUS_HTP__LISTEN is unknown; did you mean PORTUNUS_HTTP__LISTEN?"),
        ("PORTUNUS_BACKEND__2__ID", "x", "PORTUNUS_BACKEND__2__ID is unknown; did you mean PORTUNUS_BACKEND__0__ID?"),
        ("PORTUNUS_BACKEND__X__ID", "x", "PORTUNUS_BACKEND__X__ID is unknown; did you mean PORTUNUS_BACKEND__0__ID?"),
        ("PORTUNUS_HTTP__LISTEN__0", "x", "PORTUNUS_HTTP__LISTEN__0: the file has a single value at a part"),
        ("PORTUNUS_HTTP__KEY__X", "x", "PORTUNUS_HTTP__KEY__X is unknown; did you mean PORTUNUS_HTTP__KEY?"),
        ("PORTUNUS_BACKEND__0", "x", "PORTUNUS_BACKEND__0: names a whole section, not a value"),
        ("PORTUNUS_NEXTCLOUD__TIMEOUT", "soon", "PORTUNUS_NEXTCLOUD__TIMEOUT: expected a number"),
        ("PORTUNUS_NEXTCLOUD__TIMEOUT", "-1", "PORTUNUS_NEXTCLOUD__TIMEOUT: expected a number > 0.0"),
        (
            "PORTUNUS_NEXTCLOUD__CONNECTIONS_PER_HOST",
            "1.5",
            "PORTUNUS_NEXTCLOUD__CONNECTIONS_PER_HOST: expected a number",
        ),
        ("PORTUNUS_NEXTCLOUD__ALLOW_ANY", "perhaps", "PORTUNUS_NEXTCLOUD__ALLOW_ANY: expected true or false"),
        ("PORTUNUS_STATS__ALLOWED", "[", "PORTUNUS_STATS__ALLOWED: expected a JSON list, or values with commas"),
        ("PORTUNUS_SESSIONS__SECRET", "short", "PORTUNUS_SESSIONS__SECRET: needs 32 bytes or more"),
    ],
)
def test_error_in_the_environment_names_the_variable(path: Path, variable: str, value: str, expected: str) -> None:
    text = "http = {listen = 5}\n" + MINIMAL if variable.endswith("LISTEN__0") else MINIMAL
    assert refusal(path, text, **{variable: value}).startswith(expected)


def test_variable_replaces_or_appends_one_entry_of_a_list(path: Path) -> None:
    text = "[http]\nlisten = ['a:1', 'b:2']\n" + MINIMAL
    assert read(path, text, PORTUNUS_HTTP__LISTEN__1="c:3", PORTUNUS_HTTP__LISTEN__2="d:4").http.listen == (
        "a:1",
        "c:3",
        "d:4",
    )


# --- secrets in files


def test_secret_file_is_relative_to_the_configuration(path: Path) -> None:
    (path.parent / "session.key").write_text(SECRET + "\n")
    (path.parent / "cloud.key").write_text("fr0mfile")
    text = MINIMAL.replace(f'secret = "{SECRET}"', 'secret_file = "session.key"')
    config = read(path, text, PORTUNUS_BACKEND__0__SECRET_FILE=str(path.parent / "cloud.key"))
    assert config.sessions.secret == SECRET
    assert config.backends[0].secret == "fr0mfile"
    assert "fr0mfile" not in repr(config)


def test_variable_overrides_a_secret_file(path: Path) -> None:
    text = MINIMAL.replace(f'secret = "{SECRET}"', 'secret_file = "absent"')
    assert read(path, text, PORTUNUS_SESSIONS__SECRET=SECRET).sessions.secret == SECRET


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('secret_file = "absent"', "FILE: sessions.secret_file: absent cannot be read (No such file or directory)"),
        ("secret_file = 7", "FILE: sessions.secret_file: expected the path of a file"),
        ('secret_file = "x"\nsecret = "y"', "FILE: sessions.secret_file: secret is given as well"),
        ('secret_file = "short"', "FILE: sessions.secret_file: needs 32 bytes or more"),
        ('secret_file = "binary"', "FILE: sessions.secret_file: binary cannot be read (UnicodeDecodeError)"),
        ('secret_fle = "x"', "FILE: sessions.secret_fle is unknown; did you mean sessions.secret?"),
    ],
)
def test_unreadable_secret_file_is_named(path: Path, line: str, expected: str) -> None:
    (path.parent / "short").write_text("short")
    (path.parent / "binary").write_bytes(b"\xff")
    assert refusal(path, MINIMAL.replace(f'secret = "{SECRET}"', line)).startswith(expected)


# --- values and sections


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), (":8080", ("", 8080)), ("/run/x.sock", None)],
)
def test_listen_address_is_parsed_to_host_and_port(text: str, expected: tuple[str, int] | None) -> None:
    assert listen_address(text) == expected


def test_configuration_can_be_constructed_without_a_file() -> None:
    assert Config(sessions=SessionsSection(secret=SECRET)).mcu.type == "none"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('servers = ["turn:t:3478"]', "FILE: turn.api_key: is missing; turn.servers needs it"),
        ('servers = ["turn:t:3478"]\napi_key = "k"', "FILE: turn.secret: is missing; turn.servers needs it"),
        ('servers = ["t:3478"]\napi_key = "k"\nsecret = "s3"', "FILE: turn.servers[0]: "),
        ('api_key = "changeme"', "FILE: turn.api_key: is a placeholder"),
    ],
)
def test_turn_servers_need_key_and_secret(path: Path, text: str, expected: str) -> None:
    assert refusal(path, f"[turn]\n{text}\n" + MINIMAL).startswith(expected)


def test_country_and_continent_codes_become_upper_case(path: Path) -> None:
    text = '[geoip.overrides]\n"10.0.0.0/8" = "de"\n"2001:db8::1" = "CH"\n[geoip.continents]\ntr = "eu"\n'
    config = read(path, text + MINIMAL)
    assert config.geoip.overrides == {"10.0.0.0/8": "DE", "2001:db8::1": "CH"}
    assert config.geoip.continents == {"TR": "EU"}


def test_tables_can_come_from_the_environment(path: Path) -> None:
    config = read(path, PORTUNUS_GEOIP__OVERRIDES="10.0.0.0/8=de, 2001:db8::/32 = ch", PORTUNUS_GEOIP__CONTINENTS="")
    assert config.geoip.overrides == {"10.0.0.0/8": "DE", "2001:db8::/32": "CH"}
    assert config.geoip.continents == {}
    config = read(path, "[geoip.continents]\ntr = 'AS'\n" + MINIMAL, PORTUNUS_GEOIP__CONTINENTS__CY="AS")
    assert config.geoip.continents == {"TR": "AS", "CY": "AS"}
    expected = "PORTUNUS_GEOIP__OVERRIDES: expected key=value pairs"
    assert refusal(path, PORTUNUS_GEOIP__OVERRIDES="10.0.0.0/8").startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("overrides = {'10.0.0.0/33' = 'DE'}", 'FILE: geoip.overrides: "10.0.0.0/33" is neither'),
        ("overrides = {'10.0.0.1' = 'DEU'}", 'FILE: geoip.overrides.10.0.0.1: "DEU" is not a country code'),
        ("continents = {'TR' = 'Europe'}", "FILE: geoip.continents.TR: expected country = one of AF, AN, AS, EU,"),
        ("continents = {'Turkey' = 'EU'}", "FILE: geoip.continents.Turkey: expected country = one of"),
        ("database = 'http://[::1/x.mmdb'", "FILE: geoip.database: is neither a path nor a file, http or https URL"),
        ("database = 'https:///x.mmdb'", "FILE: geoip.database: is neither a path nor a file, http or https URL"),
        ("database = 'file://'", "FILE: geoip.database: is neither a path nor a file, http or https URL"),
        ("database = 'ftp://h/x.mmdb'", "FILE: geoip.database: is neither a path nor a file, http or https URL"),
    ],
)
def test_invalid_geoip_value_is_named(path: Path, text: str, expected: str) -> None:
    assert refusal(path, f"[geoip]\n{text}\n" + MINIMAL).startswith(expected)


CONTROLS = "[http]\nlisten = [{}]\n" + MINIMAL + '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\n'


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "[::1]:8080", "localhost:8080", "127.1.2.3:80", "/run/p.sock"])
def test_controls_for_tests_are_allowed_on_loopback(path: Path, listen: str) -> None:
    config = read(path, CONTROLS.format(f'"{listen}"') + "test_controls = true\n")
    assert config.mcu.settings.test_controls


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", ":8080", "192.0.2.1:8080", "gateway.example:8080"])
def test_controls_for_tests_are_refused_on_any_other_address(path: Path, listen: str) -> None:
    text = CONTROLS.format(f'"127.0.0.1:1", "{listen}"')
    assert refusal(path, text + "test_controls = true\n") == (
        "FILE: mcu.inprocess.test_controls: may only be true if all addresses of http.listen are loopback "
        f"addresses; {listen} is none"
    )
    assert not read(path, text).mcu.settings.test_controls
