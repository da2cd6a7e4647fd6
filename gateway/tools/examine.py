"""Runs ``portunus doctor`` for the admin page, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from gateway.edge.operator.admin_page import ExaminationError

LIMIT = 180.0  # seconds; the steps have limits of their own

_PROGRAM = "from gateway.cli import main; main()"
_EXIT_STATUSES = (0, 1)  # of a doctor that has tried its steps (docs/commands.md, "Exit status")


async def examine(configuration: Path) -> bytes:
    """Return the results of ``portunus doctor --json`` for a gateway with this configuration file.

    Raises:
        ExaminationError: the doctor cannot begin, or does not finish within ``LIMIT``.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, "doctor", "--json", "-c", str(configuration)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT):
            results, errors = await process.communicate()
    except TimeoutError:
        raise ExaminationError(f"the doctor did not finish within {LIMIT:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in _EXIT_STATUSES:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it ended without a reason"]
        raise ExaminationError(f"the doctor cannot begin: {lines[-1].removeprefix('Error: ').rstrip('.')}")
    return results
