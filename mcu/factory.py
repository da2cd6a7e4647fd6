"""Creates the SFU that the configuration names; only the modules of that SFU are imported.

A further SFU is a folder beside ``janus/`` and an entry in ``SFU_TYPES`` (docs/mcu.md, "A third SFU"). Its settings are
the configuration's section ``[mcu.<type>]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mcu.base import Mcu


class SfuOptions(NamedTuple):
    """The values that an SFU is created with, besides its settings."""

    timeout: float  # seconds, for each request to the SFU
    instance: str  # this gateway's name on an SFU that other gateways use as well; empty: a random one
    clock: Callable[[], float]  # monotonic seconds
    wall_clock: Callable[[], float]  # Unix seconds


class _SfuType(NamedTuple):
    settings_type: Callable[[], Any]
    check: Callable[[Any], None]  # of the settings
    create: Callable[[Any, SfuOptions], Mcu]  # from settings and options


def _janus_settings_type() -> Any:
    from mcu.janus.settings import JanusServerSettings

    return tuple[JanusServerSettings, ...]


def _check_janus(settings: Any) -> None:
    from mcu.janus.settings import check_servers

    check_servers(settings)


def _create_janus(settings: Any, options: SfuOptions) -> Mcu:
    from mcu.janus.backend import JanusMcu

    return JanusMcu(settings, options.timeout, options.instance, options.clock, options.wall_clock)


def _inprocess_settings_type() -> Any:
    from mcu.inprocess.settings import InprocessSettings

    return InprocessSettings


def _create_inprocess(settings: Any, options: SfuOptions) -> Mcu:
    from mcu.inprocess.backend import InprocessMcu

    # It needs no timeout, for it answers at once, and no name, for no other gateway uses it.
    return InprocessMcu(settings, clock=options.clock, wall_clock=options.wall_clock)


def _no_check(settings: Any) -> None:
    """Accept all settings of the type."""


SFU_TYPES = {
    "janus": _SfuType(_janus_settings_type, _check_janus, _create_janus),
    "inprocess": _SfuType(_inprocess_settings_type, _no_check, _create_inprocess),
}


def names() -> tuple[str, ...]:
    """Return the names of the SFU types."""
    return tuple(SFU_TYPES)


def settings_type(name: str) -> Any:
    """Return the msgspec type of the section ``[mcu.<name>]``.

    Raises:
        ValueError: there is no such SFU type.
    """
    return _sfu_type(name).settings_type()


def check(name: str, settings: Any) -> None:
    """Check whether an SFU can be created from settings of its ``settings_type``.

    Raises:
        ValueError: the SFU cannot be created, or there is no such SFU type; the text is one clear sentence.
    """
    _sfu_type(name).check(settings)


def create(
    name: str,
    settings: Any,
    *,
    timeout: float,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
    instance: str = "",
) -> Mcu:
    """Create an SFU from settings of its ``settings_type``; ``timeout`` in seconds holds for each request to it.

    ``instance`` names this gateway on an SFU that other gateways use as well. A restart must not change it: streams of
    an earlier process are recognised by it. Empty: a random one. ``clock`` is monotonic, ``wall_clock`` Unix time; both
    in seconds.

    Raises:
        ValueError: the SFU cannot be created, or there is no such SFU type; the text is one clear sentence.
    """
    return _sfu_type(name).create(settings, SfuOptions(timeout, instance, clock, wall_clock))


def _sfu_type(name: str) -> _SfuType:
    if name not in SFU_TYPES:
        raise ValueError(f"there is no SFU type {name!r}; there are: {', '.join(SFU_TYPES)}")
    return SFU_TYPES[name]
