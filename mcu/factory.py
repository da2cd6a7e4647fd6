"""A backend of the SFU interface by its name, imported when it is chosen.

A further SFU is a folder beside ``janus/`` and its name in ``BACKENDS``. A backend's settings are what stands under
``[mcu].<name>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mcu.base import Mcu


def _janus_settings() -> Any:
    from mcu.janus.settings import JanusServerSettings

    return tuple[JanusServerSettings, ...]


def _check_janus(settings: Any) -> None:
    from mcu.janus.settings import check_servers

    check_servers(settings)


def _janus(settings: Any, timeout: float, instance: str) -> Mcu:
    from mcu.janus.backend import JanusMcu

    return JanusMcu(settings, timeout, instance)


def _inprocess_settings() -> Any:
    from mcu.inprocess.settings import InprocessSettings

    return InprocessSettings


def _check_inprocess(settings: Any) -> None:
    """Find nothing: the type says it all."""


def _inprocess(settings: Any, timeout: float, instance: str) -> Mcu:
    from mcu.inprocess.backend import InprocessMcu

    return InprocessMcu(settings)  # answers at once, and nobody else has streams on it


class _Backend(NamedTuple):
    settings: Callable[[], Any]
    check: Callable[[Any], None]
    create: Callable[[Any, float, str], Mcu]


BACKENDS = {
    "janus": _Backend(_janus_settings, _check_janus, _janus),
    "inprocess": _Backend(_inprocess_settings, _check_inprocess, _inprocess),
}


def names() -> tuple[str, ...]:
    """Return the backends there are."""
    return tuple(BACKENDS)


def settings_type(name: str) -> Any:
    """Return the msgspec type of what stands under ``[mcu].<name>``.

    Raises:
        ValueError: there is no such backend.
    """
    return _backend(name).settings()


def check(name: str, settings: Any) -> None:
    """Look whether a backend can be made from settings of its ``settings_type``, without making it.

    Raises:
        ValueError: there is no such backend, or it cannot; the text is one clear sentence.
    """
    _backend(name).check(settings)


def create(name: str, settings: Any, *, timeout: float, instance: str = "") -> Mcu:
    """Make a backend from settings of its ``settings_type``; ``timeout`` in seconds holds for each of its requests.

    ``instance`` names the gateway on an SFU that others use as well. It must be the same after a restart: so what an
    earlier process left there is recognised. Empty: one is drawn.

    Raises:
        ValueError: there is no such backend, or it cannot be made from these settings; the text is one clear sentence.
    """
    return _backend(name).create(settings, timeout, instance)


def _backend(name: str) -> _Backend:
    if name not in BACKENDS:
        raise ValueError(f"there is no SFU backend {name!r}; there are: {', '.join(BACKENDS)}")
    return BACKENDS[name]
