"""Scripts that ``make`` calls: they choose the Python and name missing programs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from tests.setup.commands import attempt, run
from tests.setup.pins import ROOT


def test_python_named_in_the_environment_is_used() -> None:
    assert run("scripts/python", cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}) == f"{sys.executable}\n"


@pytest.mark.parametrize("exists", [True, False])
def test_named_python_that_is_too_old_or_missing_is_refused(exists: bool, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    if exists:
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    refused = attempt("scripts/python", cwd=ROOT, env={**os.environ, "PYTHON": str(old)})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == f"PYTHON={old} is not a Python 3.11 or newer.\n"


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ((), "--port 8080"),
        (("PORT=8081",), "--port 8081"),
        (("HOST=192.0.2.7",), "--port 8080 --host 192.0.2.7 --https"),
        (("HOST=192.0.2.7", "PORT=8081"), "--port 8081 --host 192.0.2.7 --https"),
    ],
)
def test_variables_of_make_demo_are_options_of_the_command(variables: tuple[str, ...], options: str) -> None:
    """A browser gives other devices' pages a camera on https only, so that HOST means https."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "MAKEFLAGS")}
    commands = run("make", "--dry-run", "--no-print-directory", "demo", *variables, cwd=ROOT, env=environment)
    *_, command = commands.splitlines()
    program, *arguments = command.split()
    assert (program, " ".join(arguments)) == (".venv/bin/portunus", f"demo {options}")
    read = main.commands["demo"].make_context("demo", arguments[1:]).params  # click knows the options
    assert read["https"] is bool("--https" in options)


def test_missing_debian_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """The user is not root and may not use sudo."""
    for name, script in {"dpkg-query": "exit 1", "apt-get": "exit 1", "sudo": "exit 1", "id": "echo 1000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    missing = attempt("scripts/packages", "janus", "chromium", cwd=ROOT, env=environment)
    assert missing.returncode == 1
    command = "sudo apt-get update && sudo apt-get install -y --no-install-recommends janus chromium"
    assert missing.stderr == f"This machine lacks janus chromium; install them with: {command}\n"


def janus_script(tmp_path: Path, version: str) -> Path:
    """Copy the script that sets Janus 1.4 up, beside a Janus that prints a version where ``version`` is not empty."""
    script = tmp_path / "scripts" / "janus-1.4"
    script.parent.mkdir()
    shutil.copy2(ROOT / "scripts" / "janus-1.4", script)
    if version:
        janus = tmp_path / "build" / "janus-1.4" / "janus"
        janus.parent.mkdir(parents=True)
        janus.write_text(f"#!/bin/sh\necho 'Janus version: 1 ({version})'\n")
        janus.chmod(0o755)
    return script


@pytest.mark.parametrize(("version", "warns"), [("1.4.1", False), ("1.4.2", True), ("1.5.0", True)])
def test_janus_that_is_set_up_is_kept_and_an_unexpected_version_is_named(
    version: str, warns: bool, tmp_path: Path
) -> None:
    done = attempt(janus_script(tmp_path, version), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"Janus {version} is in build/janus-1.4\n")
    assert ("expect Janus 1.4.1" in done.stderr) is warns


def test_janus_that_cannot_be_downloaded_is_an_error_with_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "apt-get").write_text(
        "#!/bin/sh\n[ $1 = indextargets ] && echo http://127.0.0.1:9/debian || exit 100\n"
    )
    (commands / "apt-get").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    failed = attempt(janus_script(tmp_path, ""), cwd=tmp_path, env=environment)
    assert failed.returncode == 1
    assert "Run scripts/janus-1.4 again" in failed.stderr
    assert list((tmp_path / "build").iterdir()) == []
