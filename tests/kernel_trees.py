"""Trees of files as the kernel shows them, for those who read it by a root of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
NO_LIMIT_V1 = 9223372036854771712

STALL = (
    "some avg10={some10} avg60={some60} avg300=0.10 total=123456\n"
    "full avg10={full10} avg60=0.50 avg300=0.00 total=2345\n"
)
MOUNT = "{id} 23 0:{id} {mounted} {point} rw,nosuid shared:9 - {kind} {kind} rw{options}\n"


def stall_text(some10: float = 0.0, some60: float = 0.0, full10: float = 0.0) -> str:
    return STALL.format(some10=some10, some60=some60, full10=full10)


class Tree:
    """A root folder with ``proc`` and mounted groups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = str(folder)
        self._mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"

    def write(self, path: str, text: object) -> None:
        target = self.folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{text}\n" if not isinstance(text, str) else text, encoding="utf-8")

    def mount(self, kind: str, point: str, mounted: str = "/", options: str = "") -> None:
        number = 30 + self._mounts.count("\n")
        self._mounts += MOUNT.format(
            id=number, mounted=mounted, point=point, kind=kind, options=options
        )
        self.write("proc/self/mountinfo", self._mounts)

    def member_of(self, *lines: str) -> None:
        self.write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))

    def machine(self, total: int = 16_000 * MIB, available: int = 12_000 * MIB) -> None:
        self.write(
            "proc/meminfo",
            f"MemTotal:       {total // 1024} kB\nMemFree:         1000 kB\n"
            f"MemAvailable:   {available // 1024} kB\nHugePages_Total:       0\n",
        )

    def group(
        self,
        directory: str,
        *,
        current: object = None,
        most: object = None,
        high: object = None,
        inactive: int | None = None,
        stall: str | None = None,
    ) -> None:
        """Write a group of v2; what is None is absent."""
        for name, value in (
            ("memory.current", current),
            ("memory.max", most),
            ("memory.high", high),
            ("memory.pressure", stall),
        ):
            if value is not None:
                self.write(f"{directory}/{name}", value)
        if inactive is not None:
            text = f"anon 4096\nfile 8192\ninactive_anon 77\ninactive_file {inactive}\nslab 1\n"
            self.write(f"{directory}/memory.stat", text)

    def group_v1(
        self,
        directory: str,
        *,
        usage: object,
        limit: object = NO_LIMIT_V1,
        inactive: int | None = None,
        total_inactive: int | None = None,
        hierarchy: int = 1,
    ) -> None:
        """Write a group of v1."""
        self.write(f"{directory}/memory.usage_in_bytes", usage)
        self.write(f"{directory}/memory.limit_in_bytes", limit)
        self.write(f"{directory}/memory.use_hierarchy", hierarchy)
        statistics = {"inactive_file": inactive, "total_inactive_file": total_inactive}
        self.write(
            f"{directory}/memory.stat",
            "cache 5\n" + "".join(f"{k} {v}\n" for k, v in statistics.items() if v is not None),
        )


def container_v2(folder: Path, **group: object) -> Tree:
    """Return what a container sees of v2: its own group only, as the root."""
    tree = Tree(folder)
    tree.mount("cgroup2", "/sys/fs/cgroup")
    tree.member_of("0::/")
    tree.machine()
    tree.group("sys/fs/cgroup", **group)  # type: ignore[arg-type]
    return tree
