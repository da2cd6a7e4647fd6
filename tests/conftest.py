"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadlines: on a busy machine an example can take any time.
settings.register_profile("portunus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("portunus")
