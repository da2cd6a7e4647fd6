"""The command ``portunus`` and its subcommands."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gateway import log
from gateway.tools.command_errors import NoAnswer, load_config, unwritable
from gateway.tools.configuration.commands import config_group
from gateway.tools.doctor.command import doctor
from gateway.version import VERSION

_T = TypeVar("_T")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="portunus")
def main() -> None:
    """SFU-integrated media signaling gateway for Nextcloud Talk clients."""


main.add_command(config_group)
main.add_command(doctor)


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
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    callback=lambda context, parameter, text: _parse_log_levels(text),
    help="Level, and levels of areas: warning,mcu.janus=debug. DEBUG may show addresses.",
)
def serve(path: Path, log_format: log.Style, log_level: tuple[int, dict[str, int]]) -> None:
    """Serve clients until SIGINT, or until the calls have ended after SIGTERM."""
    gc.disable()  # visiting the imported objects again and again takes the collector 8 % of the start
    try:
        from gateway import config
        from gateway.tools import serve as tool
    finally:
        gc.enable()
    log.configure(log_format, log_level[0], areas=log_level[1])
    loaded = load_config(path)
    sys.exit(tool.run(loaded, lambda: config.load(path, os.environ), path))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--https", is_flag=True, help="Serve https with a self-signed certificate for the host.")
def demo(host: str, port: int, https: bool) -> None:
    """Serve a call page with an SFU and a backend of its own, to be opened in two tabs."""
    from gateway.tools import demo as tool

    log.configure()
    sys.exit(tool.run(host, port, https=https))


@main.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The gateway's configuration (TOML).")
@click.option("--socket", type=click.Path(path_type=Path), help="Its admin socket, instead of the configuration.")
@click.option("--once", is_flag=True, help="Print the state once, as when the output is not a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the state once, as JSON.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.5),
    default=2.0,
    show_default=True,
    help="Seconds between two refreshes.",
)
def top(path: Path | None, socket: Path | None, once: bool, as_json: bool, interval: float) -> None:
    """Show rooms, sessions, streams, SFUs and refusals, refreshed until Ctrl-C.

    The exit status is 2 for wrong arguments, 3 if the gateway cannot be reached.
    """
    import msgspec

    from gateway.tools import top as tool

    admin = socket or _admin_socket(path)
    if not (once or as_json) and sys.stdout.isatty():
        with contextlib.suppress(KeyboardInterrupt):
            _require_answer(lambda: tool.watch(lambda: tool.ask(admin), interval, _write))
        return
    snapshot = _require_answer(lambda: tool.ask(admin))
    for line in (msgspec.json.encode(snapshot).decode(),) if as_json else tool.lines(snapshot):
        click.echo(line)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@main.command()
@click.argument("subject", metavar="ROOM|SESSION")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The gateway's configuration (TOML).")
@click.option("--socket", type=click.Path(path_type=Path), help="Its admin socket, instead of the configuration.")
@click.option("--backend", default="", help="Id of the backend, if several have had such a room.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write JSON to this file, for a bug report.")
def timeline(
    subject: str, path: Path | None, socket: Path | None, backend: str, as_json: bool, output: Path | None
) -> None:
    """Show the events of ROOM or SESSION in order; each is the id or the short id in the log.

    The exit status is 1 if nothing is recorded of it (or several backends have such a room), 2 for wrong arguments, 3
    if the gateway cannot be reached.
    """
    from gateway.tools import timeline as tool

    answer = _require_answer(lambda: tool.ask(socket or _admin_socket(path), subject, backend))
    if output is not None:
        try:
            output.write_bytes(tool.to_json(answer))
        except OSError as error:
            raise unwritable(output, error) from error
        click.echo(f"{len(answer.events)} events are in {output}.")
        return
    for line in tool.to_json(answer).decode().splitlines() if as_json else tool.lines(answer):
        click.echo(line)


@main.command()
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="Configuration (TOML).")
def health(path: Path) -> None:
    """Ask the gateway of a configuration whether it answers, for the health check of a container.

    The exit status is 3 if it does not.
    """
    from gateway.tools import health as tool

    loaded = load_config(path)
    try:
        click.echo(f"a gateway answers on {tool.check(loaded)}")
    except tool.Unhealthy as error:
        raise NoAnswer(str(error)) from error


@main.command("room-id")
@click.argument("room")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="Configuration (TOML).")
@click.option("--backend", default="", help="Id of the backend; without it a line for each backend.")
def room_id(room: str, path: Path, backend: str) -> None:
    """Print the short id under which the log has ROOM, the token of a conversation in Talk.

    It is computed from the configuration; the gateway need not run.
    """
    from gateway.core.ids import SessionIds

    loaded = load_config(path)
    ids = SessionIds(loaded.sessions.secret)
    found = [known.id for known in loaded.backends if backend in ("", known.id)]
    if not found:
        raise click.UsageError(f"there is no backend {backend}")
    for name in found:
        click.echo(f"{ids.short_room_id(name, room)} {name}")


@main.command()
@click.argument("room")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The gateway's configuration (TOML).")
@click.option("--socket", type=click.Path(path_type=Path), help="Its admin socket, instead of the configuration.")
@click.option("--backend", default="", help="Id of the backend, if several have such a room.")
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")
def explain(room: str, path: Path | None, socket: Path | None, backend: str, as_json: bool) -> None:
    """Show the bitrate and codecs that each publisher of ROOM may send, and why.

    The exit status is 1 if there is no such room (or several), 2 for wrong arguments, 3 if the gateway cannot be
    reached.
    """
    import msgspec

    from gateway.tools import explain as tool

    answer = _require_answer(lambda: tool.ask(socket or _admin_socket(path), room, backend))
    if as_json:
        click.echo(msgspec.json.encode(answer))
        return
    for line in tool.lines(answer):
        click.echo(line)


@main.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The gateway's configuration (TOML).")
@click.option("--socket", type=click.Path(path_type=Path), help="Its admin socket, instead of the configuration.")
@click.option("--deadline", type=click.FloatRange(min=0), help="Seconds that calls go on, instead of drain.deadline.")
@click.option("--status", is_flag=True, help="Only show the state.")
@click.option("--cancel", is_flag=True, help="Accept new sessions again, and keep the process running.")
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")
def drain(
    path: Path | None, socket: Path | None, deadline: float | None, status: bool, cancel: bool, as_json: bool
) -> None:
    """Accept no new sessions, and end the process with its last call.

    The command does not wait for that. The exit status is 1 if there is no drain to cancel, 2 for wrong arguments, 3
    if the gateway cannot be reached.
    """
    import msgspec

    from gateway.tools import drain as tool

    if status + cancel + (deadline is not None) > 1:
        raise click.UsageError("Give only one of --deadline, --status and --cancel.")
    admin = socket or _admin_socket(path)
    if status:
        report = _require_answer(lambda: tool.status(admin))
    elif cancel:
        report = _require_answer(lambda: tool.cancel(admin))
    else:
        report = _require_answer(lambda: tool.begin(admin, deadline))
    click.echo(msgspec.json.encode(report) if as_json else tool.line(report))


def _require_answer(request: Callable[[], _T]) -> _T:
    """Return the answer of the gateway to a command, or end the command with status 1 or 3."""
    from gateway.tools.admin_requests import CommandRefused, GatewayUnreachable

    try:
        return request()
    except CommandRefused as error:
        raise click.ClickException(str(error)) from error
    except GatewayUnreachable as error:
        raise NoAnswer(str(error)) from error


def _admin_socket(path: Path | None) -> Path:
    """Return the path of the admin socket that a configuration names, or end the command with status 1 or 2."""
    if path is None:
        raise click.UsageError("Give the gateway's configuration (-c) or its admin socket (--socket).")
    socket = load_config(path).admin.socket
    if not socket:
        raise click.UsageError(f"{path} has no admin.socket, so this gateway has no admin socket.")
    return Path(socket)


def _parse_log_levels(text: str) -> tuple[int, dict[str, int]]:
    try:
        return log.parse_levels(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
