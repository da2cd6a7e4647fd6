"""The command group ``portunus config``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway.tools.command_errors import named_account, read_named_file, unwritable

_file = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("config")
def config_group() -> None:
    """Show, check and write configurations.

    The exit status is 0; 1 if a file is invalid or cannot be read or written, or if errors are found; 2 for wrong
    arguments.
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


@config_group.command()
@_file
@click.option("--world/--no-world", default=True, show_default=True, help="Also check files, ports and host names.")
@click.option("--user", default="", help="The gateway's user; as root: portunus, if there is such a user.")
@_as_json
def check(path: Path, world: bool, user: str, as_json: bool) -> None:
    """Find problems in FILE and on this machine: unreadable files, ports in use, names without address.

    Each finding names key, line and remedy. The exit status is 1 if one of them is an error; warnings and notes do not
    count.
    """
    import msgspec

    from gateway.tools.configuration.check import check as find
    from gateway.tools.configuration.check import summary

    account = named_account(user) if world else None
    findings = find(path, os.environ, account)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings)))
    else:
        for finding in findings:
            click.echo(str(finding))
        click.echo(summary(path, findings))
    sys.exit(1 if any(finding.level == "error" for finding in findings) else 0)


@config_group.command("import")
@_file
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file, instead of standard output.")
def import_(path: Path, out: Path | None) -> None:
    """Translate FILE, a server.conf of the Go signaling server, into a configuration of Portunus.

    The result has a comment for each option that has no equivalent or was changed.
    """
    from gateway.tools.configuration.incumbent.server_conf import ServerConf, ServerConfError
    from gateway.tools.configuration.incumbent.translation import Translation
    from gateway.tools.configuration.new_file import write_new

    text = read_named_file(path)
    try:
        translation = Translation(ServerConf(text, os.environ))
    except ServerConfError as error:
        raise click.ClickException(f"{path}: {error}") from error
    if out is None:
        click.echo(translation.text, nl=False)
        return
    try:
        write_new(out, translation.text)
    except OSError as error:
        raise unwritable(out, error) from error
    for note in translation.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{out} is written; check it with: portunus config check {out}", err=True)


@config_group.command()
@click.option("--nextcloud", required=True, metavar="URL", help="URL of Nextcloud, as its users open it.")
@click.option("--domain", required=True, metavar="NAME", help="Public name of this machine: signal.example.com.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the files.")
@click.option("--public-address", default="", metavar="IP", help="Public address of this machine behind 1:1 NAT.")
@click.option("--certificate", default="", metavar="PEM", help="Certificate of NAME; else that of certbot.")
@click.option("--key", default="", metavar="PEM", help="Its key; else that of certbot.")
def init(nextcloud: str, domain: str, out: Path, public_address: str, certificate: str, key: str) -> None:
    """Write a matching set of configurations with new secrets into a new folder.

    For the gateway, Janus, coturn, nginx, Apache, Caddy, systemd and compose; NEXT-STEPS.md says where each file goes
    and has the commands for Nextcloud.
    """
    from gateway.tools.configuration.init import InitError, InvalidValue, Site, write_set

    site = Site(nextcloud, domain, public_address, certificate, key)
    try:
        names = write_set(out, site)
    except InvalidValue as error:
        raise click.UsageError(str(error)) from error
    except InitError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise unwritable(error.filename or out, error) from error
    for name in names:
        click.echo(out / name)
    click.echo(f"Continue with {out / 'NEXT-STEPS.md'}", err=True)
