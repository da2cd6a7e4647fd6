"""``portunus config init``: a consistent set of files; ``tests/interop`` starts the programs with it."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config.sections import DrainSection
from gateway.tools.configuration.check import check
from gateway.tools.configuration.init import SECRET_FILES, SECRETS, TEMPLATES, Site, write_set
from gateway.tools.serve import END_TIME
from tests.janus_process import janus_config

ROOT = TEMPLATES.parents[3]
SITE = Site("https://cloud.example.com/talk", "Signal.example.com")
OPTIONS = {"--nextcloud": "https://cloud.example.com", "--domain": "signal.example.com"}


def texts(folder: Path) -> dict[str, str]:
    """Return the texts of the files in a folder, by name."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def assigned(text: str, *names: str) -> list[str]:
    """Return the values of ``name=value`` lines."""
    found = dict(re.findall(r"^([\w-]+)=(.*)$", text, re.M))
    return [found[name] for name in names]


def init(folder: Path, **changes: str) -> Result:
    pairs = {**OPTIONS, "--out": str(folder)} | {
        f"--{name.replace('_', '-')}": value for name, value in changes.items()
    }
    return CliRunner().invoke(main, ["config", "init", *(part for pair in pairs.items() for part in pair)])


def test_secrets_that_two_files_share_are_the_same(tmp_path: Path) -> None:
    write_set(tmp_path / "set", SITE)
    files = texts(tmp_path / "set")
    config = tomllib.loads(files["portunus.toml"])
    (backend,), (janus,) = config["backend"], config["mcu"]["janus"]
    names = ("JANUS_API_SECRET", "JANUS_ADMIN_KEY", "JANUS_ADMIN_SECRET", "JANUS_WS_PORT", "JANUS_ADMIN_PORT")
    assert [janus["api_secret"], janus["admin_key"], janus["admin_secret"], "8188", "7188"] == assigned(
        files["janus.env"], *names
    )
    assert (janus["url"], janus["admin_url"]) == ("ws://127.0.0.1:8188", "ws://127.0.0.1:7188")
    (turn_secret,) = assigned(files["turnserver.conf"], "static-auth-secret")
    url = "https://signal.example.com/standalone-signaling/"
    assert f'talk:signaling:add --verify "{url}" "{backend["secret"]}"' in files["NEXT-STEPS.md"]
    assert f'talk:turn:add --secret="{turn_secret}" turn "signal.example.com:3478" udp,tcp' in files["NEXT-STEPS.md"]
    assert backend["urls"] == ["https://cloud.example.com/talk/"]
    secrets = [config["sessions"]["secret"], config["internal"]["secret"], backend["secret"], turn_secret]
    secrets += [janus["api_secret"], janus["admin_key"], janus["admin_secret"]]
    assert len(set(secrets)) == len(SECRETS)
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)


def test_each_set_has_its_own_secrets(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        write_set(tmp_path / name, SITE)
        found += re.findall("[0-9a-f]{64}", (tmp_path / name / "portunus.toml").read_text())
    assert len(found) == len(set(found)) == 12


def test_files_with_secrets_are_readable_for_their_owner_only(tmp_path: Path) -> None:
    write_set(tmp_path / "set", SITE)
    assert stat.S_IMODE((tmp_path / "set").stat().st_mode) == 0o700
    for name, text in texts(tmp_path / "set").items():
        mode = stat.S_IMODE((tmp_path / "set" / name).stat().st_mode)
        assert mode & 0o077 == 0 if name in SECRET_FILES else mode & 0o044
        assert bool(re.search("[0-9a-f]{64}", text)) == (name in SECRET_FILES), name


def test_all_placeholders_are_replaced(tmp_path: Path) -> None:
    written = write_set(tmp_path / "set", SITE)
    files = texts(tmp_path / "set")
    assert files.keys() == {path.name for path in TEMPLATES.iterdir()}
    assert {name for name in written if "/" not in name} == files.keys()
    assert all(not re.search(r"@[A-Z_]+@", text) for text in files.values())


def test_configuration_has_no_findings(tmp_path: Path) -> None:
    write_set(tmp_path / "set", SITE)
    assert check(tmp_path / "set" / "portunus.toml", {}, None) == []


def test_service_managers_wait_longer_than_calls_may_go_on_after_sigterm(tmp_path: Path) -> None:
    """The gateway also ends before the Janus and the TURN server that its calls need."""
    write_set(tmp_path / "set", SITE)
    files = texts(tmp_path / "set")
    shortest = DrainSection().deadline + END_TIME
    assert "drain" not in tomllib.loads(files["portunus.toml"])
    (timeout,) = assigned(files["portunus.service"], "TimeoutStopSec")
    assert float(timeout) >= shortest
    assert "portunus-janus.service" in assigned(files["portunus.service"], "After")[0].split()
    gateway = service(files["compose.yaml"], "gateway")
    (period,) = re.findall(r"^    stop_grace_period: (\d+)s\b", gateway, re.M)
    assert float(period) >= shortest
    (depends_on,) = re.findall(r"^    depends_on:.*\n((?:      - .*\n)+)", gateway, re.M)
    assert re.findall(r"- (\w+)", depends_on) == ["janus", "coturn"]
    for image in ("Dockerfile", "janus-config/Dockerfile"):
        assert "\nSTOPSIGNAL SIGTERM\n" in (ROOT / image).read_text()
    assert "KillSignal" not in files["portunus.service"]


def test_unit_is_hardened_notifies_and_takes_the_address_of_its_socket(tmp_path: Path) -> None:
    write_set(tmp_path / "set", SITE)
    files = texts(tmp_path / "set")
    unit = files["portunus.service"]
    assert assigned(unit, "Type", "Requires", "Also") == ["notify", "portunus.socket", "portunus.socket"]
    (watchdog,) = assigned(unit, "WatchdogSec")
    assert float(watchdog) > END_TIME  # no keep-alive is sent while the gateway ends
    hardened = ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "LockPersonality")
    assert assigned(unit, *hardened) == ["yes"] * len(hardened)
    strict = ("ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "StateDirectory")
    assert assigned(unit, *strict) == ["strict", "", "@system-service", "portunus"]
    (address,) = assigned(files["portunus.socket"], "ListenStream")
    assert tomllib.loads(files["portunus.toml"])["http"]["listen"] == [address]


def service(compose: str, name: str) -> str:
    """Return the lines of one service of a compose file."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", compose, re.M)
    assert found is not None
    return found[1]


def test_variables_of_janus_are_known_to_its_script(tmp_path: Path) -> None:
    write_set(tmp_path / "set", Site("https://cloud.example.com", "signal.example.com", public_address="192.0.2.1"))
    files = texts(tmp_path / "set")
    names = re.findall(r"^JANUS_(\w+)=", files["janus.env"], re.M)
    assert len(names) == 9
    assert set(names) <= janus_config().DEFAULTS.keys()
    assert assigned(files["janus.env"], "JANUS_PUBLIC_ADDRESS") == ["192.0.2.1"]
    assert assigned(files["turnserver.conf"], "external-ip") == ["192.0.2.1"]


def test_files_that_others_refer_to_are_in_the_set(tmp_path: Path) -> None:
    write_set(tmp_path / "set", SITE)
    files = texts(tmp_path / "set")
    named = re.findall(r"- \./(\S+?):|env_file: (\S+)|build: (\S+)", files["compose.yaml"])
    assert {name for names in named for name in names if name} == {
        "portunus.toml",
        "janus.env",
        "janus",
        "turnserver.conf",
    }
    steps = files["NEXT-STEPS.md"]
    for name in files.keys() - {"NEXT-STEPS.md"}:
        assert name in steps or name == "compose.yaml", name
    for name in re.findall(r"[\w/-]+\.(?:toml|env|conf|service|socket|c)\b", steps):
        source = name.removeprefix("/etc/portunus/").removeprefix("/etc/")
        assert (tmp_path / "set" / source).exists(), name


def test_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "portunus.toml").write_text("mine")
    done = init(tmp_path)
    assert done.exit_code == 1
    assert "is not empty" in done.output
    assert texts(tmp_path) == {"portunus.toml": "mine"}


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("nextcloud", "cloud.example.com", "not an absolute http or https URL"),
        ("nextcloud", "https://cloud.example.com/index.php", "index.php"),
        ("nextcloud", "https://user@cloud.example.com/", "not an absolute http or https URL"),
        ("domain", "signal", "full name of a host"),
        ("domain", "signal.example.com;", "full name of a host"),
        ("domain", "192.0.2.1", "full name of a host"),
        ("public_address", "signal.example.com", "not an IP address"),
        ("certificate", "/etc/ssl/a b.pem", "not an absolute path"),
        ("key", "key.pem", "not an absolute path"),
    ],
)
def test_invalid_value_is_refused_and_nothing_is_written(option: str, value: str, part: str, tmp_path: Path) -> None:
    done = init(tmp_path / "set", **{option: value})
    assert done.exit_code == 2
    assert part in done.output
    assert not (tmp_path / "set").exists()


def test_command_prints_the_files_and_no_secret(tmp_path: Path) -> None:
    done = init(tmp_path / "set")
    assert done.exit_code == 0
    assert sorted(done.stdout.splitlines()) == sorted(
        str(path) for path in (tmp_path / "set").rglob("*") if path.is_file()
    )
    assert not re.search("[0-9a-f]{64}", done.output)
    assert CliRunner().invoke(main, ["config", "init"]).exit_code == 2
