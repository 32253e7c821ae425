"""What all tests share: hypothesis without limits of time, for the machine may do other things meanwhile."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("kvnode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kvnode")
