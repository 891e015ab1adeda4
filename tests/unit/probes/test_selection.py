"""The selection of a heap probe by its name."""

from __future__ import annotations

import pytest

from stratatrace.errors import StratatraceError
from stratatrace.probes import (
    HEAP_PROBES,
    NativeProbe,
    TracemallocProbe,
    heap_probe,
    native_obstacle,
)


def test_every_name_gives_its_probe() -> None:
    """`rss` measures no heap; the others do."""
    assert heap_probe("rss") is None
    assert isinstance(heap_probe("tracemalloc"), TracemallocProbe)
    if native_obstacle() is None:
        assert isinstance(heap_probe("native"), NativeProbe)
        assert isinstance(heap_probe("auto"), NativeProbe)


def test_without_the_extension_auto_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was asked for by name is refused, with the reason."""
    monkeypatch.setenv("STRATATRACE_NO_EXTENSION", "1")
    assert isinstance(heap_probe("auto"), TracemallocProbe)
    with pytest.raises(ValueError, match="turns the native heap probe off; 'auto' takes"):
        heap_probe("native")


def test_another_name_is_told() -> None:
    """The error shows the name and all that there are."""
    with pytest.raises(ValueError, match="no probe 'memray'") as caught:
        heap_probe("memray")
    assert isinstance(caught.value, StratatraceError)
    for name in HEAP_PROBES:
        assert repr(name) in str(caught.value)
