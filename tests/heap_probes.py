"""The heap probes that can be had here, the best first, and what the best has added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratatrace.probes import native_obstacle

if TYPE_CHECKING:
    from stratatrace.recorder import Recorder
    from stratatrace.tallies import Tallied

__all__ = ["PROBES", "tallied_of"]

PROBES = ["tracemalloc"] if native_obstacle() is not None else ["native", "tracemalloc"]


def tallied_of(recorder: Recorder) -> list[Tallied]:
    """Return the sums of *recorder*, none where it tells of each call."""
    return [] if recorder.tallies is None else list(recorder.tallies.tallied.values())
