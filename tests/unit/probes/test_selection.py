"""The selection of a heap probe by its name."""

from __future__ import annotations

import pytest

from stratatrace.errors import StratatraceError
from stratatrace.probes import HEAP_PROBES, TracemallocProbe, heap_probe


@pytest.mark.parametrize("name", HEAP_PROBES)
def test_every_name_gives_its_probe(name: str) -> None:
    """`rss` measures no heap; the others do."""
    probe = heap_probe(name)
    assert (probe is None) is (name == "rss")
    assert probe is None or isinstance(probe, TracemallocProbe)


def test_another_name_is_told() -> None:
    """The error shows the name and all that there are."""
    with pytest.raises(ValueError, match="no probe 'memray'") as caught:
        heap_probe("memray")
    assert isinstance(caught.value, StratatraceError)
    for name in HEAP_PROBES:
        assert repr(name) in str(caught.value)
