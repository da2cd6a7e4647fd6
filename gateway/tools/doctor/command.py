"""The command ``portunus doctor``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.tools.command_errors import named_account, read_named_file

if TYPE_CHECKING:
    from gateway.config import Config, TurnSection
    from gateway.tools.doctor.steps import Result
    from gateway.tools.talk_client import Json


@click.command()
@click.argument("url", required=False, default="")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The gateway's configuration (TOML).")
@click.option("--nextcloud", metavar="URL", default="", help="A Nextcloud of the server; default: those of FILE.")
@click.option("--turn", "turn", metavar="URI", multiple=True, help="A TURN server of Talk's settings (repeatable).")
@click.option("--turn-secret", type=click.Path(path_type=Path), help="File with the secret of these TURN servers.")
@click.option("--media", is_flag=True, help="Also send media through the SFU, and receive them.")
@click.option("--ticket", type=click.Path(path_type=Path), help="File with a user's signaling settings, or a token.")
@click.option("--user", default="", help="The gateway's user; as root: portunus, if there is such a user.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(
    url: str,
    path: Path | None,
    nextcloud: str,
    turn: tuple[str, ...],
    turn_secret: Path | None,
    media: bool,
    ticket: Path | None,
    user: str,
    as_json: bool,
) -> None:
    """Test the signaling server at URL step by step, and print the cause and remedy of each failure.

    URL is the one in Talk's settings; without it the first address of http.listen is tried. The exit status is 1 if a
    step failed; warnings and steps that were not tried do not count.
    """
    import asyncio

    import msgspec

    from gateway.core.backends import canonical
    from gateway.core.limits import Backend
    from gateway.tools.doctor import examination
    from gateway.tools.doctor.steps import run_steps
    from gateway.tools.doctor.target import Target, local_url, parse_target

    url_argument = url
    if not url and path is None:
        raise click.UsageError("Give the URL of a server, the gateway's configuration (-c), or both.")
    account = named_account(user)
    config, config_outcome = examination.read_configuration(path, os.environ, account)
    if not url and config is not None and not (url := local_url(config)):
        raise click.UsageError(f"{path} listens on no TCP address without TLS: give the URL of the server, too.")
    try:
        server = parse_target(url) if url else Target("")
    except ValueError as error:
        raise click.UsageError(f"URL: {error}") from error
    try:
        canonical(nextcloud or "https://cloud.example.com/")
    except ValueError as error:
        raise click.UsageError(f"--nextcloud: {error}") from error
    turn_settings = _turn_settings(config, turn, turn_secret)
    option_backends = (Backend("", (nextcloud,), ""),) if nextcloud else ()
    backends = config.backends if config is not None and not nextcloud else option_backends
    logging.disable(logging.CRITICAL)  # each failure is in the report, with its cause
    steps = examination.steps(
        server,
        config,
        config_outcome,
        backends,
        turn_settings,
        url_given=bool(url_argument),
        media=media,
        ticket=None if ticket is None else _read_ticket(ticket),
    )
    results = asyncio.run(run_steps(steps, (lambda result: None) if as_json else _print_result))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(results)))
    sys.exit(1 if any(result.state == "failed" for result in results) else 0)


def _turn_settings(config: Config | None, servers: tuple[str, ...], secret: Path | None) -> TurnSection:
    """Return the TURN servers of ``--turn`` with their secret, or else those of the configuration."""
    from gateway.config import TurnSection
    from gateway.tools.doctor.turn import is_turn_uri

    if not servers:
        return config.turn if config is not None else TurnSection()
    for uri in servers:
        if not is_turn_uri(uri):
            raise click.UsageError(f"--turn: {uri} is no URI like turn:turn.example.com:3478?transport=udp")
    if secret is None:
        raise click.UsageError("--turn needs --turn-secret, a file with the secret that these servers share with Talk.")
    return TurnSection(secret=read_named_file(secret).strip(), servers=servers)


def _read_ticket(path: Path) -> tuple[str, Json]:
    """Return the version of a hello and its parameters from a file."""
    from gateway.tools.doctor.session import read_ticket

    text = read_named_file(path)
    try:
        return read_ticket(text)
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}") from error


def _print_result(result: Result) -> None:
    """Print a result: one line, and below it for a failure or a warning the evidence and the change."""
    text = {"not tried": f"pass {result.change}", "not reached": result.cause}.get(
        result.state, result.cause or result.evidence
    )
    click.echo(f"{result.state:<12} {result.step}: {text}")
    if result.cause and result.state in ("failed", "warning"):
        for name, more in (("evidence", result.evidence), ("change", result.change)):
            if more:
                click.echo(f"{'':<12} {name}: {more}")
