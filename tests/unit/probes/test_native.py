"""The native probe: counting while it is needed, for the calling thread."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import ProbeError
from stratatrace.probes import native
from stratatrace.probes.native import (
    NO_EXTENSION_VARIABLE,
    NativeProbe,
    count_arrays,
    leftovers,
    native_obstacle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20

is_built = pytest.mark.skipif(
    native._import_error is not None, reason=f"not built here: {native._import_error}"
)


def counting() -> bool:
    """Return whether the process counts now."""
    return bool(sys.modules["stratatrace.probes._counters"].is_counting())


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[NativeProbe]:
    """Give a probe, and see that nothing counts afterwards."""
    if native._import_error is not None:
        pytest.skip(f"not built here: {native._import_error}")
    monkeypatch.delenv(NO_EXTENSION_VARIABLE, raising=False)
    yield NativeProbe()
    assert not counting()


def test_it_counts_from_open_to_close(probe: NativeProbe) -> None:
    """Whether a window needs it or not; once for each probe, and the last one ends it."""
    probe.open()
    probe.open()
    probe.start()
    probe.stop()
    assert counting()
    other = NativeProbe()
    other.open()
    probe.close()
    probe.close()
    assert counting()
    other.close()
    assert not counting()


def test_it_tells_level_and_peak(probe: NativeProbe) -> None:
    """A mark tells the level, the highest since the last one, and begins anew."""
    probe.open()
    before = probe.mark().level_bytes
    kept = bytearray(MIB)
    bytearray(2 * MIB)
    first, second = probe.mark(), probe.mark()
    probe.close()
    assert first.level_bytes - before == pytest.approx(MIB, abs=1024)
    assert first.peak_bytes - before == pytest.approx(3 * MIB, abs=1024)
    assert second.peak_bytes - before == pytest.approx(MIB, abs=1024)
    assert kept


def test_other_threads_are_not_in_the_numbers(probe: NativeProbe) -> None:
    """What they take and free is theirs, and so are their peaks."""
    kept: list[Any] = []

    def work() -> None:
        probe.mark()
        kept.append(bytearray(5 * MIB))
        kept.append(probe.mark())

    probe.open()
    before = probe.mark().level_bytes
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    after = probe.mark()
    probe.close()
    assert after.level_bytes - before == pytest.approx(0, abs=20_000)
    assert after.peak_bytes - before == pytest.approx(0, abs=20_000)
    assert kept[1].level_bytes == pytest.approx(5 * MIB, abs=20_000)


def test_memory_from_before_a_call_is_seen_to_be_freed_in_it(probe: NativeProbe) -> None:
    """Where it counts for good, the net of what frees is negative."""
    probe.open()
    held = [bytearray(MIB)]
    before = probe.mark().level_bytes
    held.clear()
    after = probe.mark().level_bytes
    probe.close()
    assert after - before == pytest.approx(-MIB, abs=1024)


def test_arrays_of_numpy_are_counted(probe: NativeProbe) -> None:
    """Where it is imported before counting begins, or is told of afterwards."""
    np = pytest.importorskip("numpy")
    assert not count_arrays()
    probe.open()
    before = probe.mark().level_bytes
    array = np.zeros(MIB)
    assert probe.mark().level_bytes - before == pytest.approx(8 * MIB, abs=2048)
    assert count_arrays()
    assert array.size
    probe.close()
    assert not count_arrays()


def test_a_forked_child_goes_on_counting(probe: NativeProbe) -> None:
    """For its own probes; a lock that another thread of the parent held does not hold it up."""
    probe.open()
    thread = threading.Thread(target=native._counting.lock.acquire)
    thread.start()
    thread.join()
    probe.after_fork_in_child()
    assert counting()
    probe.close()


@is_built
def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that also keeps it from being built; the reason is told."""
    monkeypatch.delenv(NO_EXTENSION_VARIABLE, raising=False)
    assert native_obstacle() is None
    monkeypatch.setenv(NO_EXTENSION_VARIABLE, "1")
    assert "STRATATRACE_NO_EXTENSION=1" in (native_obstacle() or "")
    with pytest.raises(ProbeError, match="STRATATRACE_NO_EXTENSION=1"):
        NativeProbe()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'stratatrace.probes._counters'"), "C compiler"),
        (ImportError("it can be imported in the main interpreter"), "main interpreter"),
    ],
)
def test_the_reason_why_it_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, words: str
) -> None:
    """An extension that is not there, and one that declines."""
    monkeypatch.delenv(NO_EXTENSION_VARIABLE, raising=False)
    monkeypatch.setattr(native, "_import_error", error)
    assert words in (native_obstacle() or "")
    with pytest.raises(ProbeError, match=words):
        NativeProbe()


def test_without_the_extension_the_module_can_be_imported() -> None:
    """It is the probe that cannot be made, and not the package that fails."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'stratatrace.probes._counters':\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from stratatrace.probes.native import native_obstacle\n"
        "print(native_obstacle())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert "native heap probe" in done.stdout


@pytest.mark.skipif(
    "CI" not in os.environ
    or os.environ.get(NO_EXTENSION_VARIABLE) == "1"
    or shutil.which("cc") is None
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="it is checked by CI, where there is what it takes to build it",
)
def test_it_is_built_where_it_can_be() -> None:
    """Its build may fail without a word, and then all of its tests are skipped."""
    assert native._import_error is None
    assert leftovers() is not None or sys.version_info >= (3, 14)
