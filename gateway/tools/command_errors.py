"""The exit status of each kind of failed command, the same in all commands (docs/commands.md, "Exit status").

A wrong argument is a ``click.UsageError`` (status 2), a file or name that cannot be used a ``click.ClickException``
(status 1), and a gateway that does not answer an ``NoAnswer`` (status 3).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import pwd

    from gateway.config import Config


class NoAnswer(click.ClickException):
    """The gateway that the command is about cannot be reached."""

    exit_code = 3


def load_config(path: Path) -> Config:
    """Return the configuration that an option names.

    Raises:
        click.ClickException: it cannot be read, or is invalid.
    """
    from gateway import config

    try:
        return config.load(path, os.environ)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error


def read_named_file(path: Path) -> str:
    """Return the text of another file that an argument names.

    Raises:
        click.ClickException: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path}: cannot be read (it is not UTF-8)") from error


def unwritable(path: Path | str, error: OSError) -> click.ClickException:
    """Return the exception for a file or folder, named by an argument, that cannot be written."""
    return click.ClickException(f"{path}: cannot be written ({error.strerror})")


def named_account(user: str) -> pwd.struct_passwd:
    """Return the account that ``--user`` names; the gateway's without a name.

    Raises:
        click.UsageError: there is no such user.
    """
    from gateway.tools.configuration.account import service_account

    try:
        return service_account(user)
    except KeyError as error:
        raise click.UsageError(f"there is no user {user}") from error
