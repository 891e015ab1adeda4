"""A probe whose numbers are set by the test."""

from __future__ import annotations

from stratatrace.measurement import Reading

__all__ = ["FakeProbe"]


class FakeProbe:
    """A probe whose level is set by hand, and that fails when it is told to."""

    name = "fake"
    per_thread = False

    def __init__(self) -> None:
        self.level = 1000
        self.peak = 1000
        self.starts = 0
        self.failing: Exception | None = None
        self.forks = 0

    def use(self, grow: int, spike: int = 0) -> None:
        """Change the level, and reach a peak that stands *spike* above the higher of both ends."""
        self.peak = max(self.peak, self.level + max(0, grow) + spike)
        self.level += grow

    def start(self) -> None:
        """Count the users."""
        if self.failing is not None:
            raise self.failing
        self.starts += 1

    def stop(self) -> None:
        """Count the users."""
        self.starts -= 1

    def mark(self) -> Reading:
        """Tell level and peak, and begin anew."""
        if self.failing is not None:
            raise self.failing
        reading = Reading(self.level, self.peak)
        self.peak = self.level
        return reading

    def after_fork_in_child(self) -> None:
        """Note it."""
        self.forks += 1
