"""``portunus config check``: each finding names key, line and remedy."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.tools.configuration.account import acting_as, service_account
from gateway.tools.configuration.check import check
from gateway.tools.configuration.findings import Finding
from gateway.tools.configuration.names import unresolvable
from gateway.version import SERVER_VERSION
from tests.gateway.certificates import make_certificate

SECRET = "0123456789abcdef0123456789abcdef"
TEXT = f"""\
[http]
listen = ["127.0.0.1:0"]
[sessions]
secret = "{SECRET}"
[[backend]]
id = "cloud"
urls = ["https://localhost/"]
secret = "5f0c0d1e9a"
[mcu]
type = "janus"
[[mcu.janus]]
url = "ws://127.0.0.1:8188"
"""
ROOT = os.geteuid() == 0
USER = "nobody" if ROOT else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that every user may enter; those of pytest and below ``TMPDIR`` may be private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "portunus.toml"
    path.write_text(text)
    path.chmod(mode)
    if ROOT:
        os.chown(path, pwd.getpwnam(USER).pw_uid, -1)
    return path


def findings(folder: Path, text: str, **environ: str) -> list[Finding]:
    return check(write(folder, text), environ, service_account(USER))


def only_finding(found: list[Finding]) -> Finding:
    """Return the only finding, which must name a problem and a remedy."""
    (finding,) = found
    assert finding.problem
    assert finding.remedy
    assert SECRET not in str(finding)
    return finding


def config_check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["config", "check", *map(str, arguments)])


def test_nothing_is_found_in_a_configuration_without_problems(folder: Path) -> None:
    path = write(folder, TEXT)
    done = config_check(path, "--user", USER)
    assert (done.exit_code, done.output) == (0, f"{path}: nothing found\n")
    done = config_check(path, "--user", USER, "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, [])


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "part"),
    [
        ("listen =", "lisetn =", 2, "http.lisetn", "http.listen"),
        ('["127.0.0.1:0"]', "1", 2, "http.listen", "a list"),
        ('["127.0.0.1:0"]', '[\n"127.0.0.1:0",\n"here"]', 4, "http.listen[1]", "host:port"),
        (SECRET, "short", 4, "sessions.secret", "openssl rand -hex 32"),
        ("5f0c0d1e9a", "changeme", 8, "backend[0].secret", "the secret of that Nextcloud"),
        ('id = "cloud"\n', "", 5, "backend[0].id", "missing"),
        ("https://localhost/", "cloud", 7, "backend[0].urls[0]", "https://cloud.example.com/"),
        ('"janus"', '"jitsi"', 10, "mcu.type", "janus"),
        ("ws://127.0.0.1:8188", "http://127.0.0.1", 11, "mcu.janus[0]", "ws://"),
        ("[mcu]", "[turn]\nsecret = 'x1y2'\nservers = ['turn:h']\n[mcu]", 9, "turn.api_key", "turn.servers"),
        ("[[mcu.janus]]", "[[mcu.janus]", 0, "", "line 11"),
    ],
)
def test_invalid_file_has_one_finding_with_key_line_and_remedy(
    folder: Path, old: str, new: str, line: int, key: str, part: str
) -> None:
    found = only_finding(findings(folder, TEXT.replace(old, new)))
    assert (found.level, found.area, found.line, found.key) == ("error", "file", line, key)
    assert found.place == f"{folder}/portunus.toml" + (f":{line}" if line else "")
    assert part in found.problem + found.remedy
    done = config_check(folder / "portunus.toml", "--user", USER)
    assert done.exit_code == 1
    assert f"error: {found.place}: " in done.output
    assert "1 error, 0 warnings" in done.output


def test_invalid_file_has_a_finding_for_each_problem(folder: Path) -> None:
    text = TEXT.replace('["127.0.0.1:0"]', '["127.0.0.1:0", "nowhere", 5]\nlisten_on = 1')
    text = text.replace(SECRET, "short").replace('id = "cloud"', "id = 5").replace("https://localhost/", "ftp:x")
    text = text.replace('secret = "5f0c0d1e9a"', "secret_file = 'missing'\nsession_limit = -1")
    text += "[limits]\nid_length = 'long'\n"
    found = findings(folder, text, PORTUNUS_MCU__TIMEOUT="soon")
    expected = {
        "http.listen_on": 3,
        "": 0,  # of a variable
        "backend[0].secret_file": 9,
        "http.listen[2]": 2,
        "backend[0].id": 7,
        "limits.id_length": 16,
        "http.listen[1]": 2,
        "sessions.secret": 5,
        "backend[0].urls[0]": 8,
        "backend[0].session_limit": 10,
    }
    assert {finding.key: finding.line for finding in found} == expected
    assert len(found) == len(expected)
    assert [finding.problem for finding in found if not finding.key] == ["PORTUNUS_MCU__TIMEOUT: expected a number"]
    assert all(finding.level == "error" and finding.remedy for finding in found)
    done = config_check(folder / "portunus.toml", "--no-world")
    assert (done.exit_code, "9 errors, 0 warnings" in done.output) == (1, True)


def test_value_of_the_environment_is_named_by_its_variable(folder: Path) -> None:
    found = only_finding(findings(folder, TEXT, PORTUNUS_HTTP__LISTEN="here"))
    assert (found.place, found.key, found.line) == ("PORTUNUS_HTTP__LISTEN", "http.listen[0]", 0)
    found = only_finding(findings(folder, TEXT, PORTUNUS_BACKEND__0__URLS="http://localhost/index.php"))
    assert (found.place, found.key, found.line) == ("PORTUNUS_BACKEND__0__URLS", "backend[0].urls[0]", 0)


@pytest.mark.parametrize(
    ("name", "reason", "remedy"),
    [
        ("none.toml", "No such file or directory", "give the path of the gateway's configuration"),
        (".", "Is a directory", "give the path of a file of TOML in UTF-8"),
        ("binary", "UnicodeDecodeError", "give the path of a file of TOML in UTF-8"),
    ],
)
def test_file_that_cannot_be_read_is_an_error_with_a_remedy_about_the_file(
    name: str, reason: str, remedy: str, folder: Path
) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe")
    done = config_check(folder / name)
    assert done.exit_code == 1
    path = folder / name
    assert done.output.splitlines()[:2] == [f"error: {path}: cannot be read ({reason})", f"    {remedy}"]


def test_file_that_may_not_be_read_has_the_remedy_to_let_this_user_read_it(folder: Path) -> None:
    path = folder / "private.toml"
    path.write_text(TEXT)
    path.chmod(0)
    with acting_as(service_account(USER)):  # not as root, whom no mode stops
        found = only_finding(check(path, {}, None))
    assert found.problem == "cannot be read (Permission denied)"
    assert found.remedy == "let the user of this command read it, or run the command as the gateway's user"


def test_wrong_arguments_have_status_2(folder: Path) -> None:
    assert config_check().exit_code == 2
    done = config_check(write(folder, TEXT), "--user", "no-such-user")
    assert done.exit_code == 2
    assert "no-such-user" in done.output


@pytest.mark.parametrize(
    ("old", "new", "level", "line", "key", "remedy"),
    [
        ('type = "janus"', "", "warning", 9, "mcu.type", 'type = "janus"'),
        ("https://localhost/", "https://localhost/index.php/", "error", 7, "backend[0].urls[0]", "https://localhost/"),
        (
            "[sessions]",
            "[nextcloud]\nallow_any = true\nsecret = '4b1d'\n[sessions]",
            "warning",
            4,
            "nextcloud.allow_any",
            "false",
        ),
        ("[mcu]", "[mcu]\nallow_subscribe_any = true", "warning", 10, "mcu.allow_subscribe_any", "false"),
        ("[mcu]", "[federation]\nallow_insecure = true\n[mcu]", "warning", 10, "federation.allow_insecure", "false"),
        (
            "[sessions]",
            "trusted_proxies = ['::1', '0.0.0.0/0']\n[sessions]",
            "warning",
            3,
            "http.trusted_proxies[1]",
            "only",
        ),
        ("[[mcu.janus]]", "[mcu.inprocess]\n[[mcu.janus]]", "warning", 11, "mcu.inprocess", 'mcu.type = "inprocess"'),
    ],
)
def test_settings_that_are_seldom_intended_are_found(
    folder: Path, old: str, new: str, level: str, line: int, key: str, remedy: str
) -> None:
    found = [finding for finding in findings(folder, TEXT.replace(old, new)) if finding.key != "mcu.janus"]
    finding = only_finding(found)
    assert (finding.level, finding.area, finding.line, finding.key) == (level, "file", line, key)
    assert remedy in finding.remedy


def test_nextcloud_without_encryption_is_found_unless_it_is_on_this_machine(folder: Path) -> None:
    text = TEXT.replace("https://localhost/", "http://192.0.2.1/")
    finding = only_finding(findings(folder, text))
    assert (finding.level, finding.remedy) == ("warning", "write https://192.0.2.1/")
    assert findings(folder, TEXT.replace("https://localhost/", "http://localhost/")) == []


@contextmanager
def listening_server(answer: bytes) -> Iterator[int]:
    """Serve one answer to all GET requests on a port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "level", "part"),
    [
        (b"<html>", "error", "another program"),
        (b"[]", "error", "another program"),
        (b'{"nextcloud-spreed-signaling":"Welcome","version":"1.2.3"}', "error", "another signaling server (1.2.3)"),
        (
            f'{{"nextcloud-spreed-signaling":"Welcome","version":"{SERVER_VERSION}"}}'.encode(),
            "note",
            "of this version",
        ),
    ],
)
def test_port_in_use_is_found(folder: Path, answer: bytes, level: str, part: str) -> None:
    with listening_server(answer) as port:
        finding = only_finding(findings(folder, TEXT.replace("127.0.0.1:0", f"127.0.0.1:{port}")))
        assert (finding.level, finding.area, finding.key, finding.line) == (level, "world", "http.listen[0]", 2)
        assert part in finding.problem
        assert str(port) in finding.problem
        done = config_check(folder / "portunus.toml", "--user", USER)
        assert done.exit_code == (1 if level == "error" else 0)
        assert config_check(folder / "portunus.toml", "--no-world").output.endswith("nothing found\n")


def test_address_of_another_machine_is_found(folder: Path) -> None:
    finding = only_finding(findings(folder, TEXT.replace("127.0.0.1:0", "192.0.2.7:0")))
    assert (finding.level, finding.key) == ("error", "http.listen[0]")
    assert "no interface of this machine has the address 192.0.2.7" in finding.problem


def test_port_that_the_user_may_not_bind_is_found(folder: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    found = findings(folder, TEXT.replace("127.0.0.1:0", "127.0.0.1:1"))
    if first > 1:
        finding = only_finding(found)
        assert (finding.level, finding.key) == ("warning", "http.listen[0]")
        assert "CAP_NET_BIND_SERVICE" in finding.remedy
    else:
        assert found == []


def test_paths_that_no_socket_can_have_are_found(folder: Path) -> None:
    if ROOT:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    text = TEXT.replace("127.0.0.1:0", f"{folder}/http.sock") + f'[admin]\nsocket = "{folder}/none/admin.sock"\n'
    finding = only_finding(findings(folder, text))
    assert (finding.level, finding.key, finding.line) == ("warning", "admin.socket", 14)
    assert "RuntimeDirectory=none" in finding.remedy
    text = text.replace("none/admin.sock", "admin.sock")
    assert findings(folder, text) == []
    (folder / "admin.sock").write_text("a file")
    assert only_finding(findings(folder, text)).problem == f"{folder}/admin.sock exists and is no socket"
    (folder / "admin.sock").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "http.sock"))
        assert findings(folder, text) == []  # left by a program that has ended
        server.listen()
        finding = only_finding(findings(folder, text))
        assert (finding.level, finding.key) == ("note", "http.listen[0]")


def test_folder_in_which_the_user_may_not_create_a_socket_is_found(folder: Path) -> None:
    (folder / "run").mkdir()
    make_unreadable(folder / "run")
    finding = only_finding(findings(folder, TEXT + f'[admin]\nsocket = "{folder}/run/admin.sock"\n'))
    assert (finding.level, finding.key) == ("error", "admin.socket")
    assert f"may not create a socket in {folder}/run" in finding.problem
    subprocess.run(finding.remedy, shell=True, check=True)
    assert findings(folder, TEXT + f'[admin]\nsocket = "{folder}/run/admin.sock"\n') == []


def make_unreadable(path: Path) -> None:
    path.chmod(0o600 if ROOT else 0)
    if ROOT:
        os.chown(path, 0, 0)


def test_file_that_the_user_cannot_read_is_found_and_its_remedy_mends_it(folder: Path) -> None:
    database = folder / "countries.mmdb"
    database.write_text("")
    make_unreadable(database)
    text = TEXT + f'[geoip]\ndatabase = "{database}"\n'
    finding = only_finding(findings(folder, text))
    assert (finding.level, finding.area, finding.key, finding.line) == ("error", "world", "geoip.database", 14)
    assert f"cannot be read by {USER} (Permission denied)" in finding.problem
    subprocess.run(finding.remedy, shell=True, check=True)
    assert findings(folder, text) == []
    assert (
        only_finding(findings(folder, text.replace("countries", "none"))).remedy
        == "correct the path, or create the file"
    )
    assert only_finding(findings(folder, text.replace(str(database), f"file://{folder}/none"))).key == "geoip.database"


def test_folder_that_the_user_cannot_enter_is_named(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "countries.mmdb").write_text("")
    make_unreadable(inner)
    finding = only_finding(findings(folder, TEXT + f'[geoip]\ndatabase = "{inner}/countries.mmdb"\n'))
    assert finding.key == "geoip.database"
    subject, _, command = finding.remedy.partition(": ")
    assert subject == f"let {USER} enter {inner}"
    subprocess.run(command, shell=True, check=True)
    assert findings(folder, TEXT + f'[geoip]\ndatabase = "{inner}/countries.mmdb"\n') == []


def test_secrets_that_every_user_can_read_are_found(folder: Path) -> None:
    certificate, key = make_certificate(folder)
    key.chmod(0o644)
    (folder / "secret").write_text("5f0c0d1e9a\n")
    (folder / "secret").chmod(0o644)
    text = TEXT.replace("[sessions]", f'certificate = "{certificate}"\nkey = "{key}"\n[sessions]').replace(
        'secret = "5f0c0d1e9a"', 'secret_file = "secret"'
    )
    found = {finding.key: finding for finding in check(write(folder, text, 0o644), {}, service_account(USER))}
    assert {key: finding.line for key, finding in found.items()} == {"": 0, "http.key": 4, "backend[0].secret": 10}
    assert {finding.level for finding in found.values()} == {"warning"}
    assert found["http.key"].remedy == f"chmod o= {key}"
    for name in (key, folder / "secret", folder / "portunus.toml"):
        name.chmod(0o640)
        os.chown(name, -1, pwd.getpwnam(USER).pw_gid)
    assert check(folder / "portunus.toml", {}, service_account(USER)) == []


def test_names_without_an_address_are_found_in_all_settings(folder: Path) -> None:
    text = TEXT.replace("localhost", "cloud.invalid").replace("127.0.0.1:8188", "janus.invalid:8188")
    text += 'admin_url = "ws://127.0.0.1:7188"\naddress = "media.invalid"\n'
    text += (
        '[turn]\napi_key = "a1"\nsecret = "b2"\nservers = ["turn:turn.invalid:3478?transport=udp", "turn:[::1]:3478"]\n'
    )
    text += '[geoip]\ndatabase = "https://countries.invalid/x.mmdb"\n'
    found = findings(folder, text)
    assert {finding.key: finding.line for finding in found} == {
        "backend[0].urls[0]": 7,
        "mcu.janus[0].url": 12,
        "mcu.janus[0].address": 14,
        "turn.servers[0]": 18,
        "geoip.database": 20,
    }
    assert {finding.level for finding in found} == {"error"}
    assert any("getent hosts cloud.invalid" in finding.remedy for finding in found)


def test_name_server_that_does_not_answer_is_waited_for_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: answered.wait())
    failed = unresolvable({"cloud.example.com"}, 0.01)
    answered.set()
    assert failed == {"cloud.example.com": "no answer within 0.01 s"}


def test_other_user_without_rights_is_reported_as_not_checked(folder: Path) -> None:
    """Take an ordinary user's rights first, if this is root."""
    path = write(folder, TEXT)
    other = pwd.getpwnam("daemon")
    with acting_as(pwd.getpwnam(USER)):
        finding = only_finding(check(path, {}, other))
    assert finding.level == "warning"
    assert finding.remedy == "run the command as daemon or as root"
