"""What all tests share: hypothesis without limits of time, for the machine may do other things meanwhile; and a SIGINT
that is heard, which it is not by what a script runs in its background."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("kvnode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kvnode")

signal.signal(signal.SIGINT, signal.default_int_handler)
