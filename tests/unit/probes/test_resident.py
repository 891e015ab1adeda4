"""Resident memory: exact peaks where the kernel gives them, an upper bound where it does not."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from stratatrace.errors import ProbeError
from stratatrace.probes import HighWaterProbe, LifetimeProbe, SampledProbe, resident_probe
from stratatrace.probes import resident as module

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the files of Linux")

MIB = 2**20
SLACK = 3 * MIB


def _touch(size: int) -> None:
    """Take memory from the system, use all of it, and give it back."""
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1


def _descriptors() -> set[str]:
    return {str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}


@pytest.fixture
def high_water() -> HighWaterProbe:
    """Have a probe that resets the kernel's mark, where this system lets it."""
    try:
        return HighWaterProbe()
    except (OSError, ProbeError) as error:
        pytest.skip(f"the high-water mark cannot be reset here: {error}")


def test_the_peak_of_a_stretch_is_exact(high_water: HighWaterProbe) -> None:
    """A spike that came and went is seen, once, by the next mark."""
    base = high_water.mark().level_bytes
    _touch(64 * MIB)
    spike, calm = high_water.mark(), high_water.mark()
    assert spike.peak_bytes - base == pytest.approx(64 * MIB, abs=SLACK)
    assert spike.level_bytes - base == pytest.approx(0, abs=SLACK)
    assert calm.peak_bytes - base == pytest.approx(0, abs=SLACK)
    assert high_water.lifetime_peak_bytes >= spike.peak_bytes


def test_the_level_is_what_the_system_says(high_water: HighWaterProbe) -> None:
    """As psutil reads it elsewhere."""
    level = high_water.mark().level_bytes
    assert level == pytest.approx(psutil.Process().memory_info().rss, abs=SLACK)


def test_a_floor_from_before_exec_is_passed_by(
    high_water: HighWaterProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where getrusage keeps the peak of the program that was, the status file is read instead."""
    monkeypatch.setattr(module, "_maxrss_bytes", lambda: 2**40)
    assert HighWaterProbe().mark().peak_bytes < 2**39


def test_a_mark_that_does_not_move_is_refused(
    high_water: HighWaterProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox that accepts the reset and ignores it is found out, and nothing stays open."""
    before = _descriptors()
    with monkeypatch.context() as patched:
        levels = {"VmHWM": 2**40, "VmRSS": 2**20}
        patched.setattr(HighWaterProbe, "_status", lambda _self, field: levels[field])
        with pytest.raises(ProbeError, match="high-water mark stayed"):
            HighWaterProbe()
    assert _descriptors() == before


def test_without_the_kernels_help_a_thread_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The selection falls back, and says so by its method."""

    def refused(_self: object) -> None:
        raise PermissionError

    monkeypatch.setattr(HighWaterProbe, "_open", refused)
    probe = resident_probe()
    assert probe is not None
    assert probe.method == "sampled"


@pytest.mark.parametrize("rss_peak", ["sampled", "lifetime"])
def test_another_way_to_the_peak_can_be_asked_for(rss_peak: str) -> None:
    """Then the kernel's mark is not reset."""
    probe = resident_probe(rss_peak)
    assert probe is not None
    assert probe.method == rss_peak
    assert not isinstance(probe, HighWaterProbe)


def test_the_bound_of_a_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never below the level."""
    monkeypatch.setattr(module, "_maxrss_bytes", lambda: 0)
    reading = LifetimeProbe().mark()
    assert reading.level_bytes == pytest.approx(psutil.Process().memory_info().rss, abs=SLACK)
    assert reading.peak_bytes == reading.level_bytes


def test_a_sampling_thread_runs_while_a_window_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees what stays for some time, and is gone after the last window."""
    monkeypatch.setattr(module, "_SAMPLE_SECONDS", 0.001)
    probe = SampledProbe()
    threads = threading.active_count()
    probe.start()
    probe.start()
    assert threading.active_count() == threads + 1
    base = probe.mark().level_bytes
    with mmap.mmap(-1, 64 * MIB) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
        for _ in range(1000):
            if probe._highest_bytes - base > 60 * MIB:
                break
            time.sleep(0.005)
    assert probe.mark().peak_bytes - base == pytest.approx(64 * MIB, abs=SLACK)
    probe.stop()
    assert threading.active_count() == threads + 1
    (sampler,) = [t for t in threading.enumerate() if t.name == "stratatrace-rss"]
    probe.stop()
    sampler.join(10)
    assert threading.active_count() == threads


def test_without_proc_psutil_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no files of the kernel, the level still comes."""

    def missing(*_: object) -> int:
        raise FileNotFoundError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", missing)
        probe = LifetimeProbe()
    assert probe.mark().level_bytes == pytest.approx(psutil.Process().memory_info().rss, abs=SLACK)


@pytest.mark.parametrize("kind", [HighWaterProbe, LifetimeProbe, SampledProbe])
def test_descriptors_are_closed_on_exec_and_with_the_probe(
    high_water: HighWaterProbe, kind: type[HighWaterProbe | LifetimeProbe]
) -> None:
    """No other program inherits them, and none is left when the probe is dropped."""
    before = _descriptors()
    probe = kind()
    opened = [fd for name, fd in vars(probe).items() if name.endswith("_fd")]
    assert all(fd >= 0 and not os.get_inheritable(fd) for fd in opened)
    del probe
    assert _descriptors() == before


@pytest.mark.parametrize("kind", [HighWaterProbe, LifetimeProbe, SampledProbe])
def test_a_forked_child_opens_its_own_files(
    high_water: HighWaterProbe, kind: type[HighWaterProbe | LifetimeProbe]
) -> None:
    """The inherited ones are closed, and the new ones are read."""
    probe = kind()
    before = _descriptors()
    probe.after_fork_in_child()
    assert _descriptors() == before
    assert probe.mark().level_bytes > 0


def test_a_peak_that_another_probe_sets_back_is_not_lost(high_water: HighWaterProbe) -> None:
    """Two recorders side by side have the same peak, whoever looks first."""
    other = HighWaterProbe()
    base = high_water.mark().level_bytes
    other.mark()
    _touch(64 * MIB)
    spikes = [other.mark().peak_bytes, high_water.mark().peak_bytes]
    calm = high_water.mark().peak_bytes
    assert [spike - base for spike in spikes] == pytest.approx([64 * MIB] * 2, abs=SLACK)
    assert calm - base < SLACK
