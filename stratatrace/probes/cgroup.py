"""Control groups (Linux, v1 and v2): what may be used of memory, and what is.

A group's limit holds for all groups below it together, so every group from the process's own up to
the highest that can be seen counts, each with its own use: that of the siblings is in it. See
cgroups(7), and "Memory Interface Files" in the kernel's description of cgroup v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.probes.files import read_file, read_number
from stratatrace.probes.psi import Stall, parse_stall

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CgroupProbe", "CgroupReading", "GroupUse"]

# v1 says "no limit" by the highest count of pages, which depends on their size.
_NO_LIMIT_V1 = 2**62


class GroupUse(NamedTuple):
    """The memory of one control group."""

    #: The group's path, as `/proc/self/cgroup` writes it.
    path: str
    #: What is in use, in bytes, without the page cache that can be dropped at once; None where
    #: it cannot be read.
    used_bytes: int | None
    #: What may be used, in bytes: the lesser of ``memory.max`` and ``memory.high`` in v2; None
    #: without a limit.
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupReading:
    """The groups that a process is in, at one moment."""

    #: The process's own group first, then those above it; without those that count no memory.
    groups: tuple[GroupUse, ...] = ()
    #: How long the group's tasks have waited for memory; None where it is not counted.
    stall: Stall | None = None


class _Hierarchy(NamedTuple):
    """One tree of groups, and the process's place in it."""

    mount_point: str
    #: The path of the group that is mounted there.
    mounted: str
    #: From there to the process's group.
    below: str

    def places(self) -> Iterator[tuple[str, str]]:
        """Give directory and path of the process's group, and of each one above it."""
        below = self.below
        while True:
            yield self.mount_point + below, (self.mounted + below) or "/"
            if not below:
                return
            below = below.rpartition("/")[0]


class CgroupProbe:
    """Reads the groups of the calling process, wherever they are mounted.

    Args:
        root: The folder in which ``proc`` and the mounted groups are; another one in tests.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._membership: str | None = None
        self._v1: _Hierarchy | None = None
        self._v2: _Hierarchy | None = None

    def read(self) -> CgroupReading:
        """Return limits and use now; empty where there are no groups, or none can be read."""
        self._look_up()
        groups: tuple[GroupUse, ...] = ()
        if self._v1 is not None:
            groups = tuple(_read_v1(self._v1))
        elif self._v2 is not None:
            groups = tuple(_read_v2(self._v2))
        stall = None
        if self._v2 is not None:  # Where the memory is counted by v1, waiting may be by v2.
            directory, _ = next(self._v2.places())
            stall = parse_stall(read_file(f"{directory}/memory.pressure"))
        return CgroupReading(groups=groups, stall=stall)

    def _look_up(self) -> None:
        """Find the groups, at first and when the process was moved to others."""
        membership = read_file(f"{self._root}/proc/self/cgroup")
        if membership == self._membership:
            return
        self._membership = membership
        self._v1 = self._v2 = None
        mounts = read_file(f"{self._root}/proc/self/mountinfo")
        if membership is None or mounts is None:
            return
        for line in membership.splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if "memory" in controllers.split(","):
                self._v1 = self._hierarchy(mounts, "cgroup", "memory", path)
            elif number == "0" and not controllers:
                self._v2 = self._hierarchy(mounts, "cgroup2", None, path)

    def _hierarchy(
        self, mounts: str, kind: str, option: str | None, path: str
    ) -> _Hierarchy | None:
        """Return where the group of that path is, among the mounts of that kind."""
        found = None
        for line in mounts.splitlines():
            place, _, source = line.partition(" - ")
            fields, options = place.split(" "), source.split(" ")
            if len(fields) < 5 or options[0] != kind:  # noqa: PLR2004 -- see proc(5), mountinfo
                continue
            if option is not None and option not in options[-1].split(","):
                continue
            mounted, mount_point = _unescaped(fields[3]).rstrip("/"), _unescaped(fields[4])
            below = path.removeprefix(mounted).rstrip("/")
            inside = path == mounted or path.startswith(f"{mounted}/")
            if not inside or ".." in below.split("/"):
                # A container that sees its own part of the tree only, by another name.
                below = ""
            hierarchy = _Hierarchy(self._root + mount_point.rstrip("/"), mounted, below)
            if inside:
                return hierarchy
            found = found or hierarchy
        return found


def _read_v2(hierarchy: _Hierarchy) -> Iterator[GroupUse]:
    for directory, path in hierarchy.places():
        limits = (
            read_number(f"{directory}/memory.max"),  # "max" is no number, and no limit.
            read_number(f"{directory}/memory.high"),
        )
        limit_bytes = min((limit for limit in limits if limit is not None), default=None)
        used_bytes = _used(directory, "memory.current", ("inactive_file",))
        if used_bytes is not None or limit_bytes is not None:
            yield GroupUse(path, used_bytes, limit_bytes)


def _read_v1(hierarchy: _Hierarchy) -> Iterator[GroupUse]:
    for place, (directory, path) in enumerate(hierarchy.places()):
        if place and read_number(f"{directory}/memory.use_hierarchy") == 0:
            return  # Groups below are not counted in this one, nor in those above.
        limit_bytes = read_number(f"{directory}/memory.limit_in_bytes")
        if limit_bytes is not None and limit_bytes >= _NO_LIMIT_V1:
            limit_bytes = None
        used_bytes = _used(
            directory, "memory.usage_in_bytes", ("total_inactive_file", "inactive_file")
        )
        if used_bytes is not None or limit_bytes is not None:
            yield GroupUse(path, used_bytes, limit_bytes)


def _used(directory: str, counter: str, droppable: tuple[str, ...]) -> int | None:
    """Return what a group uses, less the first of those fields of its statistics."""
    used_bytes = read_number(f"{directory}/{counter}")
    if used_bytes is None:
        return None
    statistics = dict(
        line.split(" ", 1)
        for line in (read_file(f"{directory}/memory.stat") or "").splitlines()
        if " " in line
    )
    for field in droppable:
        text = statistics.get(field, "").strip()
        if text.isascii() and text.isdigit():
            return max(0, used_bytes - int(text))
    return used_bytes


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, in which blanks and the like are written as octal numbers."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", character)
    return text
