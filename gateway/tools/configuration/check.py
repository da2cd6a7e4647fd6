"""``portunus config check``: the problems of a configuration: in its file, and on this machine and network."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from pathlib import Path

from gateway.config import ConfigError, load_with_source
from gateway.tools.configuration.advice import advise
from gateway.tools.configuration.file_access import check_files
from gateway.tools.configuration.findings import Finding, Findings, loading_failure
from gateway.tools.configuration.listening import check_listening
from gateway.tools.configuration.names import check_names


def check(path: Path, environ: Mapping[str, str], account: pwd.struct_passwd | None) -> list[Finding]:
    """Return the problems of a configuration; ``account`` is the gateway's user, ``None`` to look at the file only.

    A file that cannot be loaded has one finding for each of its problems.
    """
    try:
        config, source = load_with_source(path, environ)
    except ConfigError as error:
        return [loading_failure(problem, str(path)) for problem in error.all]
    findings = Findings(source)
    advise(config, source, findings)
    if account is not None:
        check_files(config, source, account, findings)
        check_listening(config, account, findings)
        check_names(config, findings)
    return findings.found


def summary(path: Path, findings: list[Finding]) -> str:
    """Return one sentence about the findings."""
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if not errors and not warnings:
        return f"{path}: nothing found"
    return f"{path}: {_quantity(errors, 'error')}, {_quantity(warnings, 'warning')}"


def _quantity(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
