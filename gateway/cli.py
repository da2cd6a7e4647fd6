"""The command ``portunus``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway import log
from gateway.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="portunus")
def main() -> None:
    """SFU-integrated media signaling gateway for Nextcloud Talk clients."""


@main.command()
@click.option(
    "-c",
    "--config",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="Configuration file (TOML).",
)
@click.option("--log-format", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True)
def serve(path: Path, log_format: log.Style) -> None:
    """Serve clients until SIGTERM."""
    from gateway import config
    from gateway.tools import serve as tool

    log.configure(log_format)
    try:
        loaded = config.load(path, os.environ)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(tool.run(loaded, lambda: config.load(path, os.environ)))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
def demo(host: str, port: int) -> None:
    """Serve a call page with an SFU and a backend of its own: open it in two tabs and talk."""
    from gateway.tools import demo as tool

    log.configure()
    sys.exit(tool.run(host, port))
