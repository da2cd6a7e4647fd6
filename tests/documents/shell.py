"""The shell commands that the documents show: those of their fenced blocks ``sh`` and ``console``.

In a block ``sh`` each line is a command; in a block ``console`` those lines that begin with ``$``, and the others are
output. ``NEXT-STEPS.md``, which ``portunus config init`` writes for readers of plain text, has indented blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from gateway.tools.configuration.init import TEMPLATES

ROOT = Path(__file__).parents[2]
NEXT_STEPS = TEMPLATES / "NEXT-STEPS.md"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    NEXT_STEPS,
]

_fenced = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
_indented = re.compile(r"(?:^    .*\n)+", re.M)
# What a line begins with that is a command, whatever the block is said to be.
_command = re.compile(
    r"(?:\$ |# (?=portunus|sudo)|sudo |make [a-z]|docker |systemctl |apt-get |curl |gcc |\.venv/bin/|uv |php occ "
    r"|janus -|pip3? install|python3? [-\w]"
    r"|portunus (?:serve|demo|doctor|config|health|room-id|top|timeline|explain|drain)\b)"
)


def shown_commands(document: Path) -> list[str]:
    """Return the commands that a document shows, without comments and with single blanks."""
    return [command for _, block in _shell_blocks(document) for command in _commands(block)]


def commands_outside_shell_blocks(document: Path) -> list[str]:
    """Return the lines of other blocks that look like commands."""
    text = document.read_text()
    others = [match[3] for match in _fenced.finditer(text) if match[2] not in ("sh", "console")]
    if document != NEXT_STEPS:
        others += _indented.findall(_fenced.sub("", text))
    return [line for block in others for line in dedent(block).splitlines() if _command.match(line)]


def section_commands(document: Path, title: str) -> list[str]:
    """Return the commands of one section of a document, without those of its subsections' titles."""
    text = document.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [command for match in _fenced.finditer(text) for command in _commands(_sh(match[2], dedent(match[3])))]


def _shell_blocks(document: Path) -> Iterator[tuple[str, str]]:
    text = document.read_text()
    for match in _fenced.finditer(text):
        if match[2] in ("sh", "console"):
            yield match[2], _sh(match[2], dedent(match[3]))
    if document == NEXT_STEPS:
        for block in _indented.findall(text):
            yield "sh", dedent(block)


def _sh(language: str, block: str) -> str:
    """Return the commands of a block, one a line."""
    return block if language == "sh" else "\n".join(re.findall(r"^\$ (.*)$", block, re.M))


def _commands(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        command = " ".join(re.sub(r"(?:^|\s)#\s.*$", "", line).split())
        if command:
            yield command
