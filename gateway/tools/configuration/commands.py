"""The command group ``portunus config``."""

from __future__ import annotations

import os
from pathlib import Path

import click

_file = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("config")
def config_group() -> None:
    """Show, check and write configurations.

    The exit status is 0; 1 if a file is invalid or cannot be read or written; 2 for wrong arguments.
    """


@config_group.command()
@_file
@_as_json
def show(path: Path, as_json: bool) -> None:
    """Show each setting of FILE as it applies, with its origin: a line of the file, the environment or the default.

    Secrets are not shown.
    """
    import msgspec

    from gateway import config
    from gateway.tools.configuration.show import show_json, show_lines

    try:
        settings = config.effective_settings(*config.load_with_source(path, os.environ))
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(show_json(settings, path))))
        return
    for line in show_lines(settings, path):
        click.echo(line)


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    import msgspec

    from gateway import config

    click.echo(msgspec.json.format(msgspec.json.encode(config.json_schema())))
