"""The keys whose change needs a restart of the gateway."""

from __future__ import annotations

from gateway.config.sections import Config


def keys_that_need_restart(before: Config, after: Config) -> list[str]:
    """Return the keys and sections that differ and that a reload cannot change."""
    values = {
        "http.listen": (before.http.listen, after.http.listen),
        "http.certificate": (bool(before.http.certificate), bool(after.http.certificate)),  # TLS on or off
        "sessions": (before.sessions, after.sessions),
        "nextcloud.timeout": (before.nextcloud.timeout, after.nextcloud.timeout),
        "nextcloud.connections_per_host": (before.nextcloud.places, after.nextcloud.places),
        "tracing": (before.tracing, after.tracing),
        "admin.socket": (before.admin.socket, after.admin.socket),
        "mcu.type": (before.mcu.type, after.mcu.type),
        "mcu.timeout": (before.mcu.timeout, after.mcu.timeout),
        "mcu.instance": (before.mcu.instance, after.mcu.instance),
        "mcu.inprocess.test_controls": (before.test_controls, after.test_controls),
    }
    return [key for key, (old, new) in values.items() if old != new]
