"""Calls whose memory is known, exported by the providers that stratatrace sets up itself.

Prints what a sink in the process was given. An argument is the endpoint for `configure()`; without
one it comes from the environment.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import stratatrace

if TYPE_CHECKING:
    from stratatrace import Measurement
    from stratatrace.typing import Scope

MIB = 2**20

measurements: list[Measurement] = []
kept: list[bytearray] = []


class Listing:
    """Keeps what it is given."""

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Keep the numbers of one call."""
        del scope
        measurements.append(measurement)


@stratatrace.profile_memory(budget="10MB")
def build(size: int) -> int:
    """Take more memory than its budget allows, and give it back."""
    return len(bytearray(size))


@stratatrace.profile_memory(
    name="nightly job",
    attributes={"job.name": "nightly", "job.attempt": 2, "job.share": 0.5, "job.dry": True},
    budget="200MB",
)
def within_budget(size: int) -> int:
    """Take memory of a call that has a name, attributes and a budget of its own."""
    return len(bytearray(size))


@stratatrace.profile_memory
def outer(size: int) -> int:
    """Leave the taking to another measured call."""
    return build(size)


@stratatrace.profile_memory
def keep(size: int) -> None:
    """Take memory for good."""
    kept.append(bytearray(size))


@stratatrace.profile_memory
def release() -> None:
    """Give back what another call took."""
    kept.clear()


@stratatrace.profile_memory
def turn_over(size: int) -> None:
    """Take memory in one measured call and give it back in another, both inside this one."""
    keep(size)
    release()


@stratatrace.profile_memory
def hold(size: int) -> None:
    """Take memory that is given back when no measured call is open any more but the giver."""
    kept.append(bytearray(size))


@stratatrace.profile_memory
def drop() -> None:
    """Give back what `hold` took."""
    kept.clear()


@stratatrace.profile_memory
def fail(size: int) -> None:
    """Take memory and raise."""
    message = f"{len(bytearray(size))} bytes are gone"
    raise LookupError(message)


def main(endpoint: str | None) -> None:
    """Make the calls, then tell of them."""
    stratatrace.configure(
        probe="tracemalloc", sample_ratio=1.0, endpoint=endpoint, sinks=[Listing()]
    )
    within_budget(20 * MIB)
    outer(12 * MIB)
    turn_over(4 * MIB)
    hold(3 * MIB)
    drop()
    with suppress(LookupError):
        fail(6 * MIB)
    stratatrace.shutdown()
    json.dump([measurement.to_dict() for measurement in measurements], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)
