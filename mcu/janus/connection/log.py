"""What the log calls one of several Janus: no address may stand there, and an operator must know which is meant."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any


class JanusLog(logging.LoggerAdapter[logging.Logger]):
    """The log of one Janus; its lines begin with ``which``, if it is one of several or has a name."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("portunus.mcu.janus"))
        self.which = ""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the name before a line."""
        return self.named(msg), kwargs

    def named(self, text: str) -> str:
        """Put the name before a text."""
        return f"{self.which}: {text}" if self.which else text
