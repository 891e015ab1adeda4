"""The soft RLIMIT_DATA of the process: lowered while limits are open, and put back.

It refuses what the watchdog would see too late: one huge allocation, or growth within one call of C
code. The hard limit is never touched, because without privileges it could never be raised again.
See setrlimit(2): since Linux 4.7 RLIMIT_DATA counts every private writable mapping. Elsewhere it
does not, and nothing here does anything.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

__all__ = ["SoftLimit", "hard_room_bytes", "strictest_elsewhere_bytes"]


if sys.platform == "linux":
    _INFINITY = resource.RLIM_INFINITY
    _MOST_BYTES = (1 << 63) - 1

    class SoftLimit:
        """The soft limit; not thread-safe."""

        def __init__(self) -> None:
            #: What it was before, and what it was set to; None where it is as it was.
            self._original: int | None = None
            self._lowered: int | None = None
            # What it may stand at by us: two values while it is changed, of which nobody knows
            # which one it is where an exception is thrown into the thread then.
            self._ours: tuple[int, ...] = ()

        @property
        def in_force_bytes(self) -> int | None:
            """What it was lowered to; None where it stands as it stood."""
            return self._lowered

        def hold(self, ceiling_bytes: int | None) -> None:
            """Lower the limit to *ceiling_bytes*, or put it back where that is None.

            A stricter one of the user's own, and one that is set meanwhile, are left alone.
            """
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if soft not in self._ours:
                self._original = soft
            original = _INFINITY if self._original is None else self._original
            wanted = _least(original, hard)
            lowered = None
            if ceiling_bytes is not None and ceiling_bytes < _least(_MOST_BYTES, wanted):
                wanted = lowered = ceiling_bytes
            if wanted != soft:
                self._ours = (soft, wanted)
                try:
                    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
                except (OSError, ValueError):  # A sandbox forbids it: the watchdog is left.
                    lowered = None
            self._lowered = lowered
            self._ours = () if lowered is None else (lowered,)

        def release_child(self, pid: int) -> None:
            """Take the limit off a child process that has inherited it.

            Raises:
                OSError: There is no such child any more, or it is another user's.
            """
            soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            if self._lowered is not None and self._original is not None and soft == self._lowered:
                wanted = _least(self._original, hard)
                resource.prlimit(pid, resource.RLIMIT_DATA, (wanted, hard))

        def release_children(self) -> None:
            """Take the limit off the children of this process that have inherited it."""
            for pid in _children():
                try:
                    self.release_child(pid)
                except OSError:
                    continue

    def hard_room_bytes(data_bytes: int, address_bytes: int) -> int | None:
        """Return by how much the hard limits of this process let it grow; None is any amount."""
        rooms = [
            hard - used
            for which, used in (
                (resource.RLIMIT_DATA, data_bytes),
                (resource.RLIMIT_AS, address_bytes),
            )
            if (hard := resource.getrlimit(which)[1]) != _INFINITY
        ]
        return max(0, min(rooms)) if rooms else None

    def strictest_elsewhere_bytes(address_bytes: int) -> int | None:
        """Return how much RLIMIT_AS, which is not ours, still lets the process take."""
        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        return None if soft == _INFINITY else soft - address_bytes

    def _least(one: int, other: int) -> int:
        if _INFINITY in {one, other}:
            return other if one == _INFINITY else one
        return min(one, other)

    def _children() -> list[int]:
        """Return the ids of this process's children; none where the kernel does not list them."""
        pids: list[int] = []
        try:
            for thread in Path("/proc/self/task").iterdir():
                pids += map(int, (thread / "children").read_bytes().split())
        except OSError:
            return pids
        return pids

else:

    class SoftLimit:
        """Nothing: there is no limit here that counts what a process takes."""

        in_force_bytes: int | None = None

        def hold(self, ceiling_bytes: int | None) -> None:
            """Do nothing."""

        def release_child(self, pid: int) -> None:
            """Do nothing."""

        def release_children(self) -> None:
            """Do nothing."""

    def hard_room_bytes(data_bytes: int, address_bytes: int) -> int | None:  # noqa: ARG001
        """Return None: any amount."""
        return None

    def strictest_elsewhere_bytes(address_bytes: int) -> int | None:  # noqa: ARG001
        """Return None: any amount."""
        return None
