"""The data of numpy's arrays, as tracemalloc counts it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .counting import (
    compared,
    counters,
    counting,
    in_thread,
    native,
    no_collections,
    run_python,
    settled,
    traced,
    tracing,
)

if TYPE_CHECKING:
    from collections.abc import Callable

np = pytest.importorskip("numpy")

PROGRAMS: dict[str, Callable[[], object]] = {
    "zeros": lambda: np.zeros(100_000),
    "empty": lambda: np.empty((300, 300), dtype=np.int16),
    "ones of every small size": lambda: [np.ones(size, dtype=np.uint8) for size in range(1_200)],
    "no elements": lambda: [np.zeros(0), np.empty((3, 0, 2))],
    "a scalar array": lambda: np.array(5.0),
    "zeros of every small size": lambda: [np.zeros(size) for size in range(300)],
    "views": lambda: np.arange(10_000).reshape(100, 100)[::2, 1:].T,
    "a copy of a view": lambda: np.arange(10_000)[::3].copy(),  # noqa: PLW0108
    "expressions": lambda: (np.arange(50_000) * 2.5 + 1).sum(),  # noqa: PLW0108
    "a spike": lambda: np.ones(1_000_000)[:10].copy(),  # noqa: PLW0108
    "concatenated": lambda: np.concatenate([np.arange(n) for n in range(1, 200)]),
    "strings and objects": lambda: (np.array(["text", "longer text"] * 50), np.array([None] * 500)),
    "structured": lambda: np.zeros(100, dtype=[("x", "f8"), ("y", "i4")]),
    "sorted": lambda: np.sort(np.arange(20_000)[::-1]),
    "from an iterable": lambda: np.fromiter(range(5_000), dtype=np.int64),
    "broadcast": lambda: np.ones((100, 1)) * np.ones((1, 100)),
    "a product": lambda: np.ones((120, 120)) @ np.ones((120, 120)),
}
RESIZED = [(10, 20), (10, 2_000), (2_000, 10), (100_000, 400_000), (400_000, 100_000), (64, 65)]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_arrays(program: Callable[[], object]) -> None:
    """Net and peak are those of tracemalloc, in this thread and in another."""
    expected, taken = compared(program)
    assert taken == expected
    with counting():
        assert in_thread(lambda: native(program)) == expected


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_arrays_while_tracemalloc_traces(program: Callable[[], object]) -> None:
    """Neither is in the other's way."""
    with tracing(), counting():
        expected = traced(program)
        assert native(program) == expected
    with counting(), tracing():
        assert traced(program) == expected
        assert native(program).net_bytes >= expected.net_bytes


@pytest.mark.parametrize(("old_size", "new_size"), RESIZED)
def test_a_resized_array(old_size: int, new_size: int) -> None:
    """The net is tracemalloc's; the peak never has both, while tracemalloc's may, with numpy 2."""

    def resized() -> object:
        array = np.ones(old_size, dtype=np.uint8)
        array.resize(new_size, refcheck=False)
        return array

    expected, taken = compared(resized)
    assert taken.net_bytes == expected.net_bytes
    assert taken.peak_bytes <= expected.peak_bytes
    assert 0 <= taken.peak_bytes - max(old_size, new_size) < 400


def test_the_small_blocks_that_numpy_keeps_are_not_live() -> None:
    """An array that is dropped is freed, though its block waits for the next one."""
    with counting(), no_collections():
        level, _ = counters.mark()
        for _ in range(5):
            arrays = [np.ones(100) for _ in range(50)]
            del arrays
        after, peak = counters.mark()
        assert abs(after - level) < 1_000
        assert 40_000 <= peak - level < 60_000


@pytest.mark.parametrize("size", [10, 1_000, 100_000])
def test_arrays_from_before_are_untracked(size: int) -> None:
    """Freeing one counts no data; resizing one counts all of its new size."""
    old = [np.ones(size, dtype=np.uint8) for _ in range(1_000)]
    resized = np.ones(size, dtype=np.uint8)
    with counting(), no_collections():
        level, _ = counters.mark()
        old.clear()
        assert abs(counters.mark()[0] - level) < 500
        resized.resize(50_000, refcheck=False)
        assert 50_000 <= counters.mark()[0] - level < 50_500
        del resized
        assert abs(counters.mark()[0] - level) < 500


def test_arrays_that_outlive_the_hooks() -> None:
    """They were counted, are freed by numpy itself, and leave nothing behind."""
    with counting():
        arrays = [np.ones(size) for size in range(500)]
    del arrays
    with counting():
        assert native(lambda: np.ones(100)) == settled(lambda: native(lambda: np.ones(100)))


def test_without_its_hooks_only_some_arrays_are_counted() -> None:
    """Hooks go where they came, and can be put back."""
    with counting():
        with_hooks = native(lambda: [np.ones(10) for _ in range(5)])
        counters.forget_numpy()
        counters.forget_numpy()
        without = native(lambda: [np.ones(10) for _ in range(5)])
        assert counters.count_numpy()
        assert counters.count_numpy()
        assert native(lambda: [np.ones(10) for _ in range(5)]) == with_hooks
    assert with_hooks.net_bytes - without.net_bytes == 5 * 80


def test_numpy_is_not_imported_for_it() -> None:
    """Where it is not there, there is nothing to count, and where it comes later, it can be."""
    code = (
        "import sys\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "assert not c.count_numpy() and 'numpy' not in sys.modules\n"
        "c.forget_numpy()\n"
        "import numpy as np\n"
        "assert c.count_numpy()\n"
        "level = c.mark()[0]\n"
        "array = np.zeros(1_000_000)\n"
        "assert 0 <= c.mark()[0] - level - 8_000_000 < 1_000\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"


@pytest.mark.parametrize(
    "change",
    [
        "handler.name = b'another'",
        "handler.version = 2",
        "for name in CORES: sys.modules[name] = types.ModuleType('x')",
        "for name in CORES: sys.modules[name] = types.SimpleNamespace(_ARRAY_API=5)",
        "api[306] = ctypes.addressof(read_only)",
    ],
    ids=["name", "version", "no API", "no capsule", "read-only"],
)
@pytest.mark.skipif(sys.platform != "linux", reason="makes read-only memory by mprotect")
def test_a_handler_that_looks_different_is_left_alone(change: str) -> None:
    """There is no error, and numpy goes on as it is."""
    code = (
        "import ctypes, mmap, sys, types\n"
        "import numpy as np\n"
        "from stratatrace.probes import _counters as c\n"
        "CORES = 'numpy._core._multiarray_umath', 'numpy.core._multiarray_umath'\n"
        "class Handler(ctypes.Structure):\n"
        "    _fields_ = [('name', ctypes.c_char * 127), ('version', ctypes.c_uint8),\n"
        "                ('functions', ctypes.c_void_p * 5)]\n"
        "get = ctypes.pythonapi.PyCapsule_GetPointer\n"
        "get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]\n"
        "new = ctypes.pythonapi.PyCapsule_New\n"
        "new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p,\n"
        "                                               ctypes.c_void_p]\n"
        "core = getattr(np, '_core', None) or np.core\n"
        "capsule = core._multiarray_umath._ARRAY_API\n"
        "api = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))\n"
        "default = ctypes.cast(api[306], ctypes.POINTER(ctypes.py_object)).contents.value\n"
        "handler = Handler.from_address(get(default, b'mem_handler'))\n"
        "page = mmap.mmap(-1, 4096)\n"
        "copy = Handler.from_buffer(page)\n"
        "ctypes.memmove(ctypes.addressof(copy), ctypes.addressof(handler), ctypes.sizeof(copy))\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.mprotect(ctypes.c_void_p(ctypes.addressof(copy)), 4096, 1) == 0\n"
        "name = b'mem_handler'\n"
        "read_only = ctypes.py_object(new(ctypes.addressof(copy), name, None))\n"
        f"{change}\n"
        "c.start()\n"
        "assert c.count_numpy() is False\n"
        "level = c.mark()[0]\n"
        "array = np.ones(10)\n"
        "c.stop()\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"
