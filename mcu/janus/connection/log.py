"""The log of one Janus: each line begins with its name, because addresses must not appear in the log (invariant 7)."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any


class JanusLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of one Janus; ``server_name`` is empty where there is only one and its settings give it no name."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("portunus.mcu.janus"))
        self.server_name = ""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Prefix a log line with the name."""
        return self.prefixed(msg), kwargs

    def prefixed(self, text: str) -> str:
        """Return a text with the name before it."""
        return f"{self.server_name}: {text}" if self.server_name else text
