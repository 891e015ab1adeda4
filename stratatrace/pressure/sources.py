"""One look at all sources, kept for as long as it is fresh."""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.guard import Guard
from stratatrace.measurement import Callsite
from stratatrace.pressure.reading import Look, MemoryScope, Pressure, PressureThresholds, judge
from stratatrace.probes.cgroup import CgroupProbe
from stratatrace.probes.machine import MachineProbe
from stratatrace.probes.psi import StallProbe

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PressureSource", "Sources", "checked_thresholds", "memory_pressure", "readings"]

_MAX_AGE_SECONDS = 0.5


class PressureSource(Protocol):
    """Whatever can be asked how much memory is in use."""

    def read(self) -> Look:
        """Return what is known now."""
        ...


class Sources:
    """All sources of this machine; each may be missing.

    Args:
        root: The folder in which ``proc`` and the mounted groups are; another one in tests.
    """

    def __init__(self, root: str = "/") -> None:
        self._cgroup = CgroupProbe(root)
        self._stall = StallProbe(root)
        self._machine = MachineProbe(root)

    def read(self) -> Look:
        """Return every scope that has a limit, and how long tasks have waited for memory."""
        scopes = []
        groups = self._cgroup.read()
        used_bytes = None
        for group in groups.groups:
            # Where a group above does not tell its use, it is at least that of the group below.
            used_bytes = group.used_bytes if group.used_bytes is not None else used_bytes
            if group.limit_bytes is not None and used_bytes is not None:
                scopes.append(MemoryScope(f"cgroup {group.path}", used_bytes, group.limit_bytes))
        machine = self._machine.read()
        if machine is not None:
            in_use = machine.total_bytes - machine.available_bytes
            scopes.append(MemoryScope("machine", in_use, machine.total_bytes))
        # What the system's tasks wait for may be the limit of somebody else's group.
        if groups.stall is not None:
            return Look(tuple(scopes), groups.stall, "cgroup")
        stall = self._stall.read()
        return Look(tuple(scopes), stall, "system" if stall is not None else None)


def memory_pressure(
    *, thresholds: PressureThresholds | None = None, max_age_seconds: float = _MAX_AGE_SECONDS
) -> Pressure:
    """Return how near the end of memory is, for this process's control groups and the machine.

    It can be asked as often as one likes: the files are read at most every *max_age_seconds*. Never
    fails: a source that is missing or cannot be read is left out. All other processes of the same
    groups, and of the machine, are in the numbers.

    Args:
        thresholds: From where on it is a warning, and critical; 80% and 90% of a limit, or waiting
            for 10% and 40% of the last 10 seconds, by default.
        max_age_seconds: How old the numbers may be, in seconds; 0 reads them anew.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: *max_age_seconds* is negative or not finite.
    """
    if max_age_seconds != _MAX_AGE_SECONDS:
        _check_age(max_age_seconds)
    return readings.read(checked_thresholds(thresholds), max_age_seconds)


class _Latest(NamedTuple):
    """A look, and what was made of it."""

    at_seconds: float
    look: Look
    thresholds: PressureThresholds
    pressure: Pressure


class _Readings:
    """The latest look at the sources, for as long as it is fresh.

    There is no lock: two threads that find it too old read twice, and either result will do.
    """

    def __init__(self) -> None:
        #: What is asked; `stratatrace.testing` puts something else here.
        self.source: PressureSource = Sources()
        #: Keeps what is allocated here out of a measured call's numbers; set by the recorder, which
        #: stands above this module.
        self.own_work: Callable[[], AbstractContextManager[None]] = nullcontext
        #: Accounts for what fails here, and in those who are told.
        self.guard = Guard()
        self._latest: _Latest | None = None

    def read(
        self, thresholds: PressureThresholds, max_age_seconds: float, *, hold: bool = True
    ) -> Pressure:
        """Return the pressure, not older than that.

        Args:
            thresholds: What makes the level.
            max_age_seconds: How old, in seconds.
            hold: Whether the calling thread may be in a measured call.
        """
        latest = self._latest
        fresh = latest is not None and time.monotonic() - latest.at_seconds < max_age_seconds
        if fresh and latest is not None and thresholds == latest.thresholds:
            return latest.pressure
        with self.own_work() if hold else nullcontext():
            try:
                source = self.source
                if latest is None or not fresh:
                    at_seconds, look = time.monotonic(), source.read()
                else:
                    at_seconds, look, _, _ = latest
                pressure = judge(look, thresholds)
                if source is self.source:  # Else it was replaced meanwhile.
                    self._latest = _Latest(at_seconds, look, thresholds, pressure)
            except MemoryError:
                return Pressure(level="critical", reasons=("there was no memory left to read it",))
            except Exception:
                self.guard.caught(_READING, "read the pressure")
                return Pressure(level="normal")
        return pressure

    def forget(self) -> None:
        """Read anew at the next question."""
        self._latest = None

    def after_fork_in_child(self) -> None:
        """Read the child's own groups, and count its own failures."""
        self.forget()
        self.guard.after_fork_in_child()


def checked_thresholds(thresholds: PressureThresholds | None) -> PressureThresholds:
    """Return the thresholds that are given, or else those that hold by default."""
    if thresholds is None:
        return _DEFAULTS
    if not isinstance(thresholds, PressureThresholds):
        msg = f"thresholds= is a PressureThresholds, not {thresholds!r}"
        raise InvalidTypeError(msg)
    return thresholds


def _check_age(seconds: float) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"max_age_seconds is a number of seconds, not {seconds!r}"
        raise InvalidTypeError(msg)
    if not (seconds >= 0 and math.isfinite(seconds)):
        msg = f"max_age_seconds is 0 or more seconds, and {seconds!r} is not"
        raise InvalidValueError(msg)


_READING = Callsite(name="memory_pressure", function="stratatrace.memory_pressure")
_DEFAULTS = PressureThresholds()
readings = _Readings()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=readings.after_fork_in_child)
