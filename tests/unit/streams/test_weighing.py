"""What items take: by the heap's growth where it is counted, by sizes where it is not."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections import deque
from typing import Any

import pytest

from stratatrace.deep_sizes import deep_size
from stratatrace.probes.live import live_bytes_source
from stratatrace.probes.native import NativeProbe, native_obstacle
from stratatrace.streams.weighing import Weigher


def weigh(items: Any) -> Weigher:
    weigher = Weigher()
    weigher.begin()
    kept = []
    for item in items:
        kept.append(item)
        weigher.add(item)
    return weigher


@pytest.fixture(params=["native", "tracemalloc"])
def counting(request: pytest.FixtureRequest) -> Any:
    """Have the heap counted in one way, and yield its name."""
    if request.param == "tracemalloc":
        tracemalloc.start()
        yield request.param
        tracemalloc.stop()
        return
    if native_obstacle() is not None:
        pytest.skip("there is no native heap probe")
    probe = NativeProbe()
    probe.open()
    yield request.param
    probe.close()


def test_the_live_heap_is_told_by_who_counts_it(counting: str) -> None:
    """Whoever that is."""
    found = live_bytes_source()
    assert found is not None
    name, live = found
    before = live()
    kept = bytes(100_000)
    grown = live() - before
    del kept
    shrunk = live() - before
    assert grown == pytest.approx(100_000, abs=1_000)
    assert shrunk == pytest.approx(0, abs=1_000)
    assert name == counting


def test_nobody_counts() -> None:
    """And nothing is started for it."""
    assert live_bytes_source() is None
    assert weigh([b"x"]).source == "sizes"
    assert not tracemalloc.is_tracing()


def test_items_weigh_what_the_heap_grew_by(counting: str) -> None:
    """With all that they refer to."""
    weigher = weigh({"number": number, "text": str(number) * 250} for number in range(1_000, 2_000))
    assert weigher.source == counting
    assert weigher.weight_bytes == pytest.approx(1_000 * (1_049 + 184 + 28), rel=0.15)
    weigher.begin()
    assert weigher.weight_bytes == 0


def test_items_from_elsewhere_weigh_what_they_are(counting: str) -> None:
    """Those that were there before, and those of another thread, did not make this heap grow."""
    items = [{"text": "x" * 1_000 + str(number)} for number in range(500)]
    weigher = weigh(items)
    assert weigher.source == "sizes"
    assert weigher.weight_bytes == pytest.approx(500 * (1_052 + 184), rel=0.15)
    if counting == "native":
        made: deque[Any] = deque()
        thread = threading.Thread(target=lambda: made.extend(bytes(10_000) for _ in range(100)))
        thread.start()
        thread.join()
        weigher = weigh(made.popleft() for _ in range(100))
        assert (weigher.source, weigher.weight_bytes) == (
            "sizes",
            100 * sys.getsizeof(bytes(10_000)),
        )


def test_sizes_follow_the_stream() -> None:
    """What items refer to is sampled, again and again."""
    weigher = weigh([["x" * 100]] * 500)
    assert weigher.weight_bytes == pytest.approx(500 * deep_size(["x" * 100]), rel=0.1)
    weigher.begin()
    for _ in range(5_000):
        weigher.add(["x" * 10_000])
    weigher.begin()
    for _ in range(100):
        weigher.add(["x" * 10_000])
    assert weigher.weight_bytes == pytest.approx(100 * deep_size(["x" * 10_000]), rel=0.1)


def test_one_large_item_is_seen_whether_or_not_it_is_sampled() -> None:
    """Its own size is always taken."""
    weigher = weigh([b"x"] * 501 + [bytes(10_000_000)])
    assert weigher.weight_bytes > 10_000_000


def test_an_item_that_will_not_tell_its_size() -> None:
    """Is taken for a small one."""

    class Wrong:
        def __sizeof__(self) -> int:
            raise MemoryError

    assert weigh([Wrong()] * 3).weight_bytes < 1_000
