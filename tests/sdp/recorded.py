"""Descriptions recorded from real programs, with the program's version (``renew_fixtures.py`` records them anew)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded description."""

    program: str  # the folder: "chromium", "firefox", "aiortc", "janus"
    version: str  # as the program prints it
    name: str
    type: str  # "offer" or "answer"
    answers: str  # id of the offer that an answer answers, else ""
    text: str

    @property
    def id(self) -> str:
        """Folder and file, as pytest shows it."""
        return f"{self.program}/{self.name}.{self.type}.sdp"


def read() -> list[Recorded]:
    """Return all fixtures, in the order of their names."""
    found = []
    for folder in sorted(path for path in FIXTURES.iterdir() if path.is_dir()):
        about = json.loads((folder / "about.json").read_text())
        for file in sorted(folder.glob("*.sdp")):
            name, type, _ = file.name.split(".")
            answers = about["answers"].get(file.name, "")
            text = file.read_bytes().decode()
            found.append(Recorded(folder.name, about["version"], name, type, answers, text))
    return found


ALL_DESCRIPTIONS = read()
BY_ID = {recorded.id: recorded for recorded in ALL_DESCRIPTIONS}
