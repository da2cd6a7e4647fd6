"""A backend of the SFU interface by its name, imported when it is chosen.

A further SFU is a folder beside ``janus/`` and its name in ``BACKENDS``. A backend's settings are what stands under
``[mcu].<name>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcu.base import Mcu


def _janus_settings() -> Any:
    from mcu.janus.settings import JanusServer

    return tuple[JanusServer, ...]


def _janus(settings: Any, timeout: float) -> Mcu:
    from mcu.janus.backend import JanusMcu

    return JanusMcu(settings, timeout)


def _inprocess_settings() -> Any:
    from mcu.inprocess.settings import Settings

    return Settings


def _inprocess(settings: Any, timeout: float) -> Mcu:
    from mcu.inprocess.backend import InprocessMcu

    return InprocessMcu(settings)  # answers at once: there is nobody to wait for


BACKENDS: dict[str, tuple[Callable[[], Any], Callable[[Any, float], Mcu]]] = {
    "janus": (_janus_settings, _janus),
    "inprocess": (_inprocess_settings, _inprocess),
}


def names() -> tuple[str, ...]:
    """Return the backends there are."""
    return tuple(BACKENDS)


def settings_type(name: str) -> Any:
    """Return the msgspec type of what stands under ``[mcu].<name>``.

    Raises:
        ValueError: there is no such backend.
    """
    return _backend(name)[0]()


def create(name: str, settings: Any, *, timeout: float) -> Mcu:
    """Make a backend from settings of its ``settings_type``; ``timeout`` in seconds holds for each of its requests.

    Raises:
        ValueError: there is no such backend, or it cannot be made from these settings; the text is one clear sentence.
    """
    return _backend(name)[1](settings, timeout)


def _backend(name: str) -> tuple[Callable[[], Any], Callable[[Any, float], Mcu]]:
    if name not in BACKENDS:
        raise ValueError(f"there is no SFU backend {name!r}; there are: {', '.join(BACKENDS)}")
    return BACKENDS[name]
