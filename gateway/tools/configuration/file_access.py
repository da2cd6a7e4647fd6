"""Checks that the gateway's user can read the files of a configuration, and that not all users can read secrets."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.config import Config
from gateway.config.source import ConfigSource
from gateway.tools.configuration.account import acting_as, can_act_as
from gateway.tools.configuration.findings import Findings


def check_files(config: Config, source: ConfigSource, account: pwd.struct_passwd, findings: Findings) -> None:
    """Add a finding for each file that the account cannot read, and for each file with secrets that all users can."""
    secret_files = _secret_files(config, source)
    files = {**secret_files, **_public_files(config)}
    if not can_act_as(account):
        problem = f"whether {account.pw_name} can read this file and those that it names was not checked"
        findings.add("warning", "world", "", problem, f"run the command as {account.pw_name} or as root")
    else:
        with acting_as(account):
            problems = {key: _reading_problem(path) for key, path in files.items()}
        for key, reason in problems.items():
            if reason:
                problem = f"{files[key]} cannot be read by {account.pw_name} ({reason})"
                findings.add("error", "world", key, problem, _remedy(files[key], account))
    for key, path in secret_files.items():
        if _is_open_to_all(path):
            problem = f"{path} holds a secret, and every user of this machine can read it"
            findings.add("warning", "world", key, problem, f"chmod o= {path}")


def _secret_files(config: Config, source: ConfigSource) -> dict[str, Path]:
    """Return the files with secrets, by the key that names them; the key of the configuration file itself is empty."""
    files = {"": source.path}
    for at, path in source.files.items():
        files["".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at).removeprefix(".")] = path
    if config.http.key:
        files["http.key"] = Path(config.http.key)
    return files


def _public_files(config: Config) -> dict[str, Path]:
    database = config.geoip.database
    if "://" in database:
        parts = urlsplit(database)
        database = unquote(parts.path) if parts.scheme == "file" else ""
    paths = {
        "http.certificate": config.http.certificate,
        "federation.certificate_authorities": config.federation.certificate_authorities,
        "geoip.database": database,
    }
    return {key: Path(text) for key, text in paths.items() if text}


def _reading_problem(path: Path) -> str:
    """Return why the effective user cannot read a file; empty if it can."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _remedy(path: Path, account: pwd.struct_passwd) -> str:
    """Return the remedy for a file that an account cannot read: a shell command where permissions are missing."""
    for folder in reversed(path.absolute().parents):
        try:
            if not _has_permission(account, folder, stat.S_IXUSR):
                return f"let {account.pw_name} enter {folder}: {grant_command(account, folder, 'x')}"
        except OSError:
            break  # the folder does not exist
    try:
        return grant_command(account, path, "r")
    except OSError:
        return "correct the path, or create the file"


def grant_command(account: pwd.struct_passwd, path: Path, mode: str) -> str:
    """Return the shell command that gives an account a permission, like ``"r"``, for an existing file or folder."""
    if path.stat().st_uid == account.pw_uid:
        return f"chmod u+{mode} {path}"
    group = grp.getgrgid(account.pw_gid).gr_name
    return f"chgrp {group} {path} && chmod g+{mode} {path}"


def _has_permission(account: pwd.struct_passwd, path: Path, bit: int) -> bool:
    """Return whether an account has a permission for a path; ``bit`` is the owner's, such as ``S_IXUSR``."""
    state = path.stat()
    if account.pw_uid == state.st_uid:
        return bool(state.st_mode & bit)
    if state.st_gid in os.getgrouplist(account.pw_name, account.pw_gid):
        return bool(state.st_mode & bit >> 3)
    return bool(state.st_mode & bit >> 6)


def _is_open_to_all(path: Path) -> bool:
    try:
        readable = path.stat().st_mode & stat.S_IROTH
        return bool(readable) and all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)
    except OSError:
        return False
