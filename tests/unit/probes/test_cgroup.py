"""Control groups: limits and use of all ancestors, in both versions, however they are mounted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_trees import MIB, NO_LIMIT_V1, Tree, container_v2, stall_text

from stratatrace.probes.cgroup import CgroupProbe, CgroupReading, GroupUse
from stratatrace.probes.files import read_file


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_container_sees_itself_as_the_root(tmp_path: Path) -> None:
    """Its use is without the page cache that can be dropped at once."""
    tree = container_v2(tmp_path, current=300 * MIB, most=1000 * MIB, high="max", inactive=50 * MIB)
    reading = CgroupProbe(tree.root).read()
    assert reading == CgroupReading(groups=(GroupUse("/", 250 * MIB, 1000 * MIB),))


def test_every_ancestor_counts_with_its_own_use(tree: Tree) -> None:
    """The lesser of max and high is the limit of each."""
    tree.mount("cgroup2", "/sys/fs/cgroup")
    tree.member_of("0::/a/b/c")
    tree.group("sys/fs/cgroup/a/b/c", current=10, most="max\n", high="max\n", inactive=0)
    tree.group("sys/fs/cgroup/a/b", current=400, most=900, high=500, inactive=100)
    tree.group("sys/fs/cgroup/a", current=700, most=800, high="max\n", inactive=1000)
    assert CgroupProbe(tree.root).read().groups == (
        GroupUse("/a/b/c", 10, None),
        GroupUse("/a/b", 300, 500),
        GroupUse("/a", 0, 800),  # Never less than nothing.
    )


def test_the_first_version(tree: Tree) -> None:
    """Its highest number is no limit; the statistics of the whole subtree are taken off."""
    tree.mount("cgroup", "/sys/fs/cgroup/cpu", options=",cpu,cpuacct")
    tree.mount("cgroup", "/sys/fs/cgroup/memory", options=",memory")
    tree.member_of("5:cpu,cpuacct:/elsewhere", "4:memory:/a/b", "1:name=systemd:/x")
    tree.group_v1("sys/fs/cgroup/memory/a/b", usage=900, inactive=1, total_inactive=200)
    tree.group_v1("sys/fs/cgroup/memory/a", usage=5000, limit=8000, inactive=1000)
    tree.group_v1("sys/fs/cgroup/memory", usage=9000)
    assert CgroupProbe(tree.root).read().groups == (
        GroupUse("/a/b", 700, None),
        GroupUse("/a", 4000, 8000),
        GroupUse("/", 9000, None),
    )


def test_without_hierarchy_those_above_do_not_count(tree: Tree) -> None:
    """In the first version, a group may not be counted in the one above it."""
    tree.mount("cgroup", "/sys/fs/cgroup/memory", options=",memory")
    tree.member_of("4:memory:/a/b")
    tree.group_v1("sys/fs/cgroup/memory/a/b", usage=900, limit=1000, hierarchy=0)
    tree.group_v1("sys/fs/cgroup/memory/a", usage=1, limit=2, hierarchy=0)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/a/b", 900, 1000),)


def test_both_versions_at_once(tree: Tree) -> None:
    """Memory is counted by the first where it is mounted there; waiting only by the second."""
    tree.mount("cgroup", "/sys/fs/cgroup/memory", options=",memory")
    tree.mount("cgroup2", "/sys/fs/cgroup/unified")
    tree.member_of("4:memory:/old", "0::/new")
    tree.group_v1("sys/fs/cgroup/memory/old", usage=5, limit=10)
    tree.group("sys/fs/cgroup/unified/new", current=7, most=8, stall=stall_text(12.5, 3, 1.25))
    reading = CgroupProbe(tree.root).read()
    assert reading.groups[0] == GroupUse("/old", 5, 10)
    assert reading.stall == (12.5, 3, 1.25)


@pytest.mark.parametrize(
    ("mounted", "path", "directory"),
    [
        ("/docker/one", "/docker/one/sub", "/sub"),
        ("/docker/one", "/docker/one", ""),
        ("/docker/one", "/elsewhere", ""),
        ("/docker/one", "/docker/onetwo", ""),
        ("/", "/../sibling", ""),
        ("/..", "/", ""),
    ],
)
def test_a_part_of_the_tree_is_mounted(tree: Tree, mounted: str, path: str, directory: str) -> None:
    """A path outside of what is mounted is taken as the mount itself."""
    tree.mount("cgroup2", "/sys/fs/cgroup", mounted)
    tree.member_of(f"0::{path}")
    tree.group(f"sys/fs/cgroup{directory}", current=5, most=10)
    assert [group[1:] for group in CgroupProbe(tree.root).read().groups] == [(5, 10)]


def test_a_group_outside_of_what_is_mounted_is_not_looked_for(tree: Tree) -> None:
    """Whatever stands at that place of the file system is something else."""
    tree.mount("cgroup2", "/sys/fs/cgroup")
    tree.member_of("0::/../sibling")
    tree.group("sys/fs/sibling", current=1, most=2)
    tree.group("sys/fs", current=3, most=4)
    tree.group("sys/fs/cgroup", current=5, most=10)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/", 5, 10),)


def test_the_mount_that_holds_the_group_is_taken(tree: Tree) -> None:
    """Others of its kind are mounted elsewhere, under names with blanks."""
    tree.mount("cgroup2", "/other", "/docker/other")
    tree.mount("cgroup2", r"/with\040blank", "/docker/one")
    tree.member_of("0::/docker/one")
    tree.group("other", current=1, most=2)
    tree.group("with blank", current=5, most=10)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/docker/one", 5, 10),)


def test_a_process_that_is_moved_is_followed(tree: Tree) -> None:
    """The next look is at the other group."""
    tree.mount("cgroup2", "/sys/fs/cgroup")
    tree.group("sys/fs/cgroup/a", current=1, most=10)
    tree.group("sys/fs/cgroup/b", current=2, most=20)
    tree.member_of("0::/a")
    probe = CgroupProbe(tree.root)
    assert probe.read().groups == (GroupUse("/a", 1, 10),)
    tree.member_of("0::/b")
    assert probe.read().groups == (GroupUse("/b", 2, 20),)


@pytest.mark.parametrize("missing", ["memory.current", "memory.max", "memory.high", "memory.stat"])
def test_a_file_may_be_missing(tmp_path: Path, missing: str) -> None:
    """The others are told."""
    tree = container_v2(tmp_path, current=300, most=1000, high=900, inactive=50)
    (tmp_path / "sys/fs/cgroup" / missing).unlink()
    expected = {
        "memory.current": GroupUse("/", None, 900),
        "memory.max": GroupUse("/", 250, 900),
        "memory.high": GroupUse("/", 250, 1000),
        "memory.stat": GroupUse("/", 300, 900),
    }[missing]
    assert CgroupProbe(tree.root).read().groups == (expected,)


def test_nothing_is_there(tmp_path: Path) -> None:
    """Other systems have no such files."""
    assert CgroupProbe(str(tmp_path)).read() == CgroupReading()


def test_membership_without_mounts(tree: Tree) -> None:
    """A container may not be shown the groups that it is in."""
    tree.member_of("4:memory:/a", "0::/a")
    assert CgroupProbe(tree.root).read() == CgroupReading()
    tree.write("proc/self/mountinfo", "garbage\n - cgroup2\n36 35 - cgroup cgroup rw,memory\n")
    assert CgroupProbe(tree.root).read() == CgroupReading()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.binary(max_size=60), min_size=6, max_size=6))
def test_garbage_is_no_number(tmp_path: Path, blobs: list[bytes]) -> None:
    """Whatever stands in the files, no look fails."""
    tree = container_v2(tmp_path, current=300, most=1000, high=900, inactive=50)
    names = ("memory.current", "memory.max", "memory.high", "memory.stat", "memory.pressure")
    for name, blob in zip(names, blobs, strict=False):
        (tmp_path / "sys/fs/cgroup" / name).write_bytes(blob)
    (tmp_path / "proc/self/mountinfo").write_bytes(
        blobs[5] + b"\n30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    )
    for group in CgroupProbe(tree.root).read().groups:
        assert all(number is None or number >= 0 for number in group[1:])


@pytest.mark.parametrize("text", ["-1", "1e3", "٣", "", "max", "12 34"])
def test_what_is_no_number(tmp_path: Path, text: str) -> None:
    """Is no limit and no use."""
    tree = container_v2(tmp_path, current=5, most=f"{text}\n", high=20)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/", 5, 20),)


def test_the_highest_of_other_page_sizes_is_no_limit(tree: Tree) -> None:
    """The first version rounds it down to a page, which may be 64 KiB."""
    tree.mount("cgroup", "/m", options=",memory")
    tree.member_of("4:memory:/")
    tree.group_v1("m", usage=5, limit=2**63 - 65536)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/", 5, None),)
    tree.group_v1("m", usage=5, limit=NO_LIMIT_V1)
    assert CgroupProbe(tree.root).read().groups == (GroupUse("/", 5, None),)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the files of Linux")
def test_this_machine() -> None:
    """What is counted is at least this process, and nothing stays open."""
    before = _descriptors()
    reading = CgroupProbe().read()
    assert _descriptors() == before
    membership = read_file("/proc/self/cgroup")
    for group in reading.groups:
        assert membership is not None
        assert group.used_bytes is None or group.used_bytes > 0
