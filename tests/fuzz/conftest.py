"""How hard the readers are tried: the same few examples each time, or ``FUZZ=long pytest
tests/fuzz`` for thousands of new ones."""

import os

from hypothesis import HealthCheck, settings

QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}

settings.register_profile("quick", max_examples=100, derandomize=True, **QUIET)
settings.register_profile("long", max_examples=3000, print_blob=True, **QUIET)
settings.load_profile(os.environ.get("FUZZ", "quick"))
