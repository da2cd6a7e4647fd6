"""``portunus config import``: an imported file is loaded with the settings that the Go server had."""

from __future__ import annotations

import stat
import tomllib
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.config import (
    Config,
    GeoIpSection,
    HttpSection,
    InternalSection,
    McuSection,
    NextcloudSection,
    SessionsSection,
    StatsSection,
    TurnSection,
    load,
)
from gateway.core.limits import Backend, FederationRules, Limits
from gateway.tools.configuration.check import check
from gateway.tools.configuration.incumbent.no_equivalent import NO_EQUIVALENT
from gateway.tools.configuration.incumbent.server_conf import ServerConf, ServerConfError
from gateway.tools.configuration.incumbent.translation import Translation
from mcu.janus.settings import JanusServerSettings
from tests.gateway.certificates import make_certificate

FOLDER = Path(__file__).parent
HASH_KEY = "5ad2f0c1b7e94836a1d0c2b3f4e59687"
ENVIRON = {"HASH_KEY": HASH_KEY, "INTERNAL": "e3b0c442", "ONE": "98fc1c14", "JANUS_PORT": "8188"}
MINIMAL_FILE = (
    f"[sessions]\nhashkey = {HASH_KEY}\n[backend]\nbackends = a\nsecret = 98fc1c14\n[a]\nurls = https://a.example.com\n"
)
PRIVATE_NETWORKS = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


def translate(text: str, **environ: str) -> Translation:
    """Translate a ``server.conf``; new secrets are numbered."""
    numbers = count(1)
    return Translation(ServerConf(text, environ), lambda: f"new-{next(numbers)}-9f86d081884c7d659a2feaa0c55ad015")


def loaded(folder: Path, text: str) -> Config:
    """Write a ``portunus.toml`` and return its configuration."""
    file = folder / "portunus.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, {})


def imported(folder: Path, text: str) -> Config:
    return loaded(folder, translate(text).text)


def test_file_with_every_option_is_loaded_with_its_settings(tmp_path: Path) -> None:
    translation = translate((FOLDER / "everything.conf").read_text(), **ENVIRON)
    assert loaded(tmp_path, translation.text) == Config(
        sessions=SessionsSection(secret=HASH_KEY),
        http=HttpSection(
            listen=("127.0.0.1:18080", "[::1]:18080", "/run/portunus/http.sock"),
            trusted_proxies=("192.0.2.1/32", "2001:db8::/32"),
        ),
        internal=InternalSection(secret="e3b0c442"),
        nextcloud=NextcloudSection(timeout=12.0, connections_per_host=9),
        backends=(
            Backend(
                "one",
                ("https://one.example.com", "https://one.example.com/talk/"),
                "98fc1c14",
                session_limit=100,
                max_stream_bitrate=2_000_000,
                max_screen_bitrate=3_000_000,
            ),
            Backend("two", ("http://two.example.com",), "6f1de7a0"),
        ),
        mcu=McuSection(
            type="janus",
            timeout=13.0,
            max_stream_bitrate=1_500_000,
            max_screen_bitrate=2_500_000,
            allowed_candidates=("10.1.0.0/16",),
            blocked_candidates=("10.0.0.0/8", "192.168.0.0/16"),
            allow_subscribe_any=True,
            settings=(JanusServerSettings("ws://127.0.0.1:8188"),),
        ),
        stats=StatsSection(allowed=("127.0.0.1/32", "192.0.2.0/24")),
        limits=Limits(http_read_timeout=20.0),
        turn=TurnSection("4e1b9c77", "d1a6f2c8", ("turn:192.0.2.2:3478?transport=udp", "turns:192.0.2.2:5349")),
        federation=FederationRules(timeout=11.0),
        geoip=GeoIpSection("file:///var/lib/countries.mmdb", "77aa88bb", {"10.0.0.0/8": "DE", "2001:db8::/32": "FR"}),
    )


def test_every_option_without_equivalent_has_a_comment() -> None:
    text = (FOLDER / "everything.conf").read_text()
    comments = translate(text, **ENVIRON).text.replace("\n#  ", "")
    missing = []
    conf = ServerConf(text, ENVIRON)
    for section, options in NO_EQUIVALENT.items():
        names = conf.options(section) if "*" in options else list(options)
        assert names
        for option in names:
            value = conf.text(section, option)
            assert value, f"{section}.{option} is not in everything.conf"
            if value == "static":  # which has no effect
                continue
            written = "…" if option == "blockkey" else value
            if f"# [{section}] {option} = {written}: " not in comments:
                missing.append((section, option))
    assert missing == []
    assert "# [https] listen = 0.0.0.0:8443 was left out" in comments
    assert "0123456789abcdef" not in comments


def test_limits_of_the_section_backend_are_named_where_they_have_no_effect() -> None:
    comments = translate((FOLDER / "everything.conf").read_text(), **ENVIRON).text
    for option in ("sessionlimit = 7", "maxstreambitrate = 8", "maxscreenbitrate = 9"):
        assert f"# [backend] {option}: " in comments


def test_stock_file_is_loaded_with_new_secrets_and_an_example_of_a_backend(tmp_path: Path) -> None:
    translation = translate((FOLDER / "stock.conf").read_text())
    assert loaded(tmp_path, translation.text) == Config(
        sessions=SessionsSection(secret="new-1-9f86d081884c7d659a2feaa0c55ad015"),
        http=HttpSection(trusted_proxies=PRIVATE_NETWORKS),
        internal=InternalSection("new-2-9f86d081884c7d659a2feaa0c55ad015"),
        backends=(Backend("cloud", ("https://cloud.example.com/",), "new-3-9f86d081884c7d659a2feaa0c55ad015"),),
        stats=StatsSection(("127.0.0.1/32", "::1/128")),
    )
    for part in ("hashkey is a placeholder", "internalsecret is a placeholder", "names no backend", "blockkey = …: "):
        assert any(part in note for note in translation.notes)


@pytest.mark.parametrize("name", ["stock.conf", "everything.conf"])
def test_check_finds_only_problems_of_the_file_and_of_the_environment(name: str, tmp_path: Path) -> None:
    translation = translate((FOLDER / name).read_text(), **ENVIRON)
    loaded(tmp_path, translation.text)
    found = {(finding.level, finding.key) for finding in check(tmp_path / "portunus.toml", {}, None)}
    expected = {
        "stock.conf": {("warning", "mcu.type")},  # it has no SFU
        "everything.conf": {("warning", "mcu.allow_subscribe_any"), ("warning", "backend[1].urls[0]")},  # http
    }
    assert found == expected[name]


def test_tls_is_taken_over_if_there_is_no_plain_address(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    text = f"[https]\nlisten = 127.0.0.1:8443\ncertificate = {certificate}\nkey = {key}\n{MINIMAL_FILE}"
    http = imported(tmp_path, text).http
    assert (http.listen, http.certificate, http.key) == (("127.0.0.1:8443",), str(certificate), str(key))
    translation = translate(text.replace("key = ", "#key = "))
    assert loaded(tmp_path, translation.text).http.certificate == ""
    assert any("certificate or key is missing" in note for note in translation.notes)


def test_all_hosts_are_allowed_with_the_common_secret(tmp_path: Path) -> None:
    config = imported(tmp_path, MINIMAL_FILE.replace("[backend]\n", "[backend]\nallowall = true\n"))
    assert (config.nextcloud.allow_any, config.nextcloud.secret, config.backends) == (True, "98fc1c14", ())


@pytest.mark.parametrize(
    ("http", "urls"),
    [
        ("false", ("https://a.example.com/", "https://b.example.com/")),
        (
            "true",
            ("https://a.example.com/", "http://a.example.com/", "https://b.example.com/", "http://b.example.com/"),
        ),
    ],
)
def test_allowed_hosts_become_one_backend(http: str, urls: tuple[str, ...], tmp_path: Path) -> None:
    text = f"""[sessions]\nhashkey = {HASH_KEY}
[backend]\nallowed = a.example.com/path, b.example.com\nallowhttp = {http}
secret = 98fc1c14\nsessionlimit = 5\nmaxstreambitrate = 6\nmaxscreenbitrate = 7"""
    assert imported(tmp_path, text).backends == (Backend("allowed", urls, "98fc1c14", 5, 6, 7),)


@pytest.mark.parametrize(
    ("options", "type", "note"),
    [
        ("url = ws://127.0.0.1:8188", "janus", ""),
        ("type = janus", "none", ""),
        ("type = janus\nurl = http://127.0.0.1", "none", "is not the URL of a Janus"),
        ("type = proxy\nurl = https://a https://b", "none", "there are no SFU proxies"),
        ("", "none", ""),
    ],
)
def test_sfu_is_chosen_as_the_go_server_does(options: str, type: str, note: str, tmp_path: Path) -> None:
    translation = translate(f"[mcu]\n{options}\n{MINIMAL_FILE}")
    assert loaded(tmp_path, translation.text).mcu.type == type
    assert any(note in sentence for sentence in translation.notes) or not note


def test_backends_without_usable_url_are_left_out_and_named(tmp_path: Path) -> None:
    text = MINIMAL_FILE.replace("backends = a", "backends = a, b, c, compat, a")
    text += "[b]\nurls = https://a.example.com:443/\n[compat]\nurl = https://d.example.com/\n"
    translation = translate(text)
    assert [backend.id for backend in loaded(tmp_path, translation.text).backends] == ["a", "compat-backend"]
    for sentence in ("The backend b has no usable URL", "The backend c has no usable URL", "another backend has it"):
        assert any(sentence in note for note in translation.notes)


def test_unknown_sections_and_options_are_named() -> None:
    notes = translate(MINIMAL_FILE + "[b]\nurls = https://b.example.com\nsecret = ab12\n[stats]\nother = 1\n").notes
    assert "[b] urls = https://b.example.com: the section is unknown, or that of a backend that is not listed." in notes
    assert "[b] secret = …: the section is unknown, or that of a backend that is not listed." in notes
    assert "[stats] other = 1: this option is unknown." in notes


sections = st.sampled_from(["http", "https", "app", "sessions", "clients", "backend", "a", "B", "mcu", "turn", "geoip"])
more_sections = st.sampled_from(
    ["geoip-overrides", "continent-overrides", "stats", "federation", "grpc", "default", "x y"]
)
WORDS = """listen readtimeout trustedproxies hashkey internalsecret timeout backends allowall allowed allowhttp secret
    sessionlimit maxstreambitrate connectionsperhost urls url type apikey servers license 10.0.0.0/8 allowed_ips
    allowedcandidates blockedcandidates debug %x certificate key"""
TEXTS = f"""a,b true 1 -1 ws://h janus proxy https://h/ https://h 10.0.0.1 ::1/200 turn:h DE 127.0.0.1:80 :1 /a
    [::1]:99999 {HASH_KEY} changeme %(url)s ftp://x none file:// " \\ é"""
options = st.sampled_from(WORDS.split())
some_values = st.sampled_from(TEXTS.split())
line = st.tuples(options, st.one_of(some_values, st.text(max_size=20))).map(" = ".join)
section = st.tuples(st.one_of(sections, more_sections), st.lists(line, max_size=6)).map(
    lambda parts: "\n".join([f"[{parts[0]}]", *parts[1]])
)


@given(st.lists(section, max_size=8).map("\n".join))
def test_any_file_is_refused_or_loaded(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        translation = translate(text)
    except ServerConfError:
        return
    assert tomllib.loads(translation.text)
    if "certificate = " not in translation.text:  # which would have to exist
        loaded(tmp_path_factory.getbasetemp(), translation.text)


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["config", "import", *map(str, arguments)], env=environ)


def test_command_prints_the_result(tmp_path: Path) -> None:
    done = run(FOLDER / "everything.conf", **ENVIRON)
    assert done.exit_code == 0
    assert loaded(tmp_path, done.stdout).sessions.secret == HASH_KEY


def test_command_writes_a_new_file_for_the_owner_only(tmp_path: Path) -> None:
    out = tmp_path / "portunus.toml"
    done = run(FOLDER / "stock.conf", "--out", out)
    assert done.exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    secret = load(out, {}).sessions.secret
    assert len(secret) == 64
    assert "note: [sessions] hashkey is a placeholder" in done.stderr
    assert secret not in done.output
    again = run(FOLDER / "stock.conf", "--out", out)
    assert again.exit_code == 1
    assert "cannot be written (File exists)" in again.output
    assert load(out, {}).sessions.secret == secret


def test_file_that_cannot_be_imported_is_refused_with_status_1(tmp_path: Path) -> None:
    done = run(FOLDER / "everything.conf")
    assert done.exit_code == 1
    assert "names the variable HASH_KEY, which is not set" in done.output
    (tmp_path / "server.conf").write_bytes(b"\xff\xfe")
    assert run(tmp_path / "server.conf").exit_code == 1
    assert run(tmp_path / "none.conf").exit_code == 1
    assert run().exit_code == 2
