"""How property tests run.

*steady*, by default: the same examples every time, so that a run that fails says something of what
was changed since the last one.  *explore*, in ``make properties``: others each time.  Neither fails
for being slow: the machines that run them are shared.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", _PATIENT, derandomize=True)
settings.register_profile("explore", _PATIENT)
settings.load_profile("steady")
