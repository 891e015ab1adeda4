"""Small programs whose memory is known by construction, and what was measured of them.

A truth is the size that `sys.getsizeof` gives for what the program takes and gives back; nothing is
taken from a run of stratatrace. A function's name is the scenario's, and its decorator its truth.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import mmap
import re
import sys
import threading
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from malloc import give_back

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.probes import leftovers
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator

    from stratatrace import Measurement

__all__ = ["SCENARIOS", "Row", "Scenario", "Truth"]

MIB = 2**20
KIB = 2**10

#: The relative error that is allowed, and the least number of bytes that is allowed all the same.
TOLERANCE = 0.01
HEAP_WITHIN_BYTES = 4 * KIB
RSS_WITHIN_BYTES = 256 * KIB
#: What a call that does nothing may read.
EMPTY_WITHIN_BYTES = 64

Bytes = int | tuple[int, ...] | None


class Row(NamedTuple):
    """One number of one call; of the worst call, where there were several alike."""

    scenario: str
    call: str
    number: str
    truth: int
    measured: int
    within: int

    @property
    def error(self) -> int:
        """By how much the measured number is too high; negative where it is too low."""
        return self.measured - self.truth

    @property
    def badness(self) -> float:
        """The error as a share of what is allowed."""
        return abs(self.error) / self.within


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of the calls of one name; None where nothing is claimed."""

    #: The heap probe that it is true of; None for all.
    probe: str | None = None
    #: Name of the callsite.
    call: str = "call"
    #: How the table calls it, where that is another.
    label: str | None = None
    #: How many calls there are.
    calls: int = 1
    #: One size for all calls, or one for each in the order in which they end.
    net: Bytes = None
    peak: Bytes = None
    #: Growth of the peak of resident memory.
    rss: Bytes = None
    #: What collections freed.
    reclaimed: Bytes = None
    #: What it must say of the heap; None where it does not matter.
    attribution: str | None = "exact"
    #: The bytes that are allowed whatever the size; None takes those of the number.
    within: int | None = None

    def rows(self, scenario: str, measurements: list[Measurement]) -> Iterator[Row]:
        """Return a row for each number that is claimed of these calls, the worst call's."""
        label = self.label or self.call
        for number, (truth, measured_in, least) in self._numbers().items():
            if truth is None:
                continue
            truths = truth if isinstance(truth, tuple) else (truth,) * len(measurements)
            each = [
                Row(scenario, label, number, expected, measured, _within(expected, least))
                for expected, measured in zip(truths, map(measured_in, measurements), strict=True)
            ]
            yield max(each, key=lambda row: row.badness)

    def latest(self, calls: int) -> Truth:
        """Return what is true of the latest of these calls."""

        def cut(truth: Bytes) -> Bytes:
            return truth[-calls:] if isinstance(truth, tuple) else truth

        return replace(
            self,
            calls=calls,
            net=cut(self.net),
            peak=cut(self.peak),
            rss=cut(self.rss),
            reclaimed=None,
        )

    def _numbers(self) -> dict[str, tuple[Bytes, Callable[[Measurement], int], int]]:
        heap = HEAP_WITHIN_BYTES if self.within is None else self.within
        return {
            "heap net": (self.net, lambda m: _known(m.heap_net_bytes), heap),
            "heap peak": (self.peak, lambda m: _known(m.heap_peak_bytes), heap),
            "RSS peak growth": (self.rss, _rss_growth, RSS_WITHIN_BYTES),
            "reclaimed": (self.reclaimed, lambda m: _known(m.gc_reclaimed_bytes), heap),
        }


@dataclass(frozen=True, slots=True)
class Scenario:
    """A program and its truths."""

    name: str
    run: Callable[[], object]
    truths: tuple[Truth, ...]

    def measure(self, probe: str) -> list[tuple[Truth, list[Measurement]]]:
        """Run the program with a heap probe, and return what was measured for each truth."""
        gc.collect()
        give_back()
        with recording(Config(probe=probe)) as sink:
            self.run()
        return [
            (truth, sink.of(truth.call)) for truth in self.truths if truth.probe in {None, probe}
        ]

    def rows(self, probe: str) -> list[Row]:
        """Run the program, and return its rows of the table: the worst of those alike."""
        worst: dict[tuple[str, str], Row] = {}
        for truth, measurements in self.measure(probe):
            for row in truth.rows(self.name, measurements):
                known = worst.setdefault((row.call, row.number), row)
                worst[row.call, row.number] = max(known, row, key=lambda row: row.badness)
        return list(worst.values())


def _within(truth: int, least: int) -> int:
    return max(least, int(abs(truth) * TOLERANCE))


def _known(number: int | None) -> int:
    assert number is not None
    return number


def _rss_growth(measurement: Measurement) -> int:
    assert measurement.rss_peak_method == "hwm"
    return _known(measurement.rss_peak_bytes) - _known(measurement.rss_before_bytes)


SCENARIOS: list[Scenario] = []


def scenario(*truths: Truth, when: bool = True) -> Callable[[Callable[[], object]], None]:
    """Enter a program and its truths into the table.

    Args:
        *truths: What is true of its calls.
        when: Whether the program can be run here.
    """

    def enter(run: Callable[[], object]) -> None:
        if when:
            name = getattr(run, "__name__", "").replace("_", " ")
            SCENARIOS.append(Scenario(name, run, truths))

    return enter


def sizes_of(things: Iterable[object]) -> int:
    """Return what a number of objects take, without what they refer to."""
    return sum(map(sys.getsizeof, things))


_BUFFER_HEAD_BYTES = sys.getsizeof(bytearray(1)) - 1


def buffer(size: int) -> int:
    """Return what a bytearray of that size, which is not 0, takes."""
    return _BUFFER_HEAD_BYTES + size


def empty(call: str, calls: int = 1) -> Truth:
    """Return the truth of calls that do nothing."""
    return Truth(call=call, calls=calls, net=0, peak=0, within=EMPTY_WITHIN_BYTES)


call, child, parent = profile_memory("call"), profile_memory("child"), profile_memory("parent")

ONE, TWO, THREE, TEN = buffer(MIB), buffer(2 * MIB), buffer(3 * MIB), buffer(10 * MIB)


# Plain calls.


@scenario(Truth(net=TEN, peak=TEN))
def a_buffer_held() -> object:
    kept: list[bytearray] = [bytearray()]

    @call
    def hold() -> None:
        kept[0] = bytearray(10 * MIB)

    return hold()


@scenario(Truth(net=0, peak=TEN))
def a_buffer_dropped() -> object:
    @call
    def drop() -> int:
        return len(bytearray(10 * MIB))

    return drop()


@scenario(Truth(net=TEN, peak=TEN))
def a_buffer_returned() -> object:
    @call
    def make() -> bytearray:
        return bytearray(10 * MIB)

    return make()


@scenario(
    Truth(call="child", net=THREE, peak=THREE + TWO),
    Truth(call="parent", net=THREE + ONE, peak=THREE + TWO + ONE),
)
def a_buffer_made_by_a_child() -> object:
    @child
    def make() -> bytearray:
        passing = bytearray(2 * MIB)
        made = bytearray(3 * MIB)
        del passing
        return made

    @parent
    def use() -> list[bytearray]:
        own = bytearray(MIB)
        return [own, make()]

    return use()


@scenario(
    Truth(call="child", calls=2, net=THREE, peak=THREE), Truth(call="parent", net=0, peak=THREE)
)
def a_buffer_of_a_child_dropped_by_its_parent() -> object:
    @child
    def make() -> bytearray:
        return bytearray(3 * MIB)

    @parent
    def use() -> int:
        return len(make()) + len(make())

    return use()


@scenario(Truth(net=-TEN, peak=0))
def an_argument_freed() -> object:
    box = [bytearray(10 * MIB)]

    @call
    def free() -> None:
        box.clear()

    # Made in no measured call, but traced all the same.
    return free()


@scenario(
    Truth(call="producer", calls=5, net=TWO, peak=TWO),
    Truth(call="consumer", calls=5, net=-TWO, peak=0),
)
def memory_freed_elsewhere() -> object:
    queue: list[bytearray] = [bytearray()] * 5

    @profile_memory("producer")
    def produce(place: int) -> None:
        queue[place] = bytearray(2 * MIB)

    @profile_memory("consumer")
    def consume(place: int) -> None:
        del queue[place][:]

    for place in range(5):
        produce(place)
    for place in range(5):
        consume(place)
    return queue


LEVELS = range(1, 101)


@scenario(
    Truth(
        calls=100,
        net=tuple(buffer(20 * KIB) * level for level in LEVELS),
        peak=tuple(buffer(20 * KIB) * level + buffer(10 * KIB) * level for level in LEVELS),
    )
)
def a_recursion_100_deep() -> object:
    kept = [bytearray()] * 100

    @call
    def descend(depth: int) -> int:
        passing = bytearray(10 * KIB)
        kept[depth] = bytearray(20 * KIB)
        return len(passing) + (descend(depth - 1) if depth else 0)

    return descend(99)


@scenario(Truth(calls=100, net=0, peak=tuple(buffer(20 * KIB) * level for level in LEVELS)))
def a_recursion_100_deep_that_keeps_nothing() -> object:
    @call
    def descend(depth: int) -> int:
        payload = bytearray(20 * KIB)
        return len(payload) + (descend(depth - 1) if depth else 0)

    return descend(99)


@scenario(
    Truth(calls=100, net=0, peak=tuple(buffer(20 * KIB) * level for level in LEVELS)),
    # The arguments of a wrapper that is not compiled are given in a dictionary.
    when=leftovers() is not None,
)
def a_recursion_100_deep_by_keyword() -> object:
    @call
    def descend(*, depth: int, label: str) -> int:
        payload = bytearray(20 * KIB)
        return len(payload) + (descend(depth=depth - 1, label=label) if depth else 0)

    return descend(depth=99, label="down")


ROW_BYTES = sys.getsizeof({"number": 1}) + sys.getsizeof(1000)
ROWS = 400
ROWS_BYTES = ROWS * (ROW_BYTES + sys.getsizeof([None]) - sys.getsizeof([])) + sys.getsizeof([])


@scenario(
    Truth(call="child", label="each child", calls=ROWS, net=ROW_BYTES, peak=ROW_BYTES),
    Truth(call="parent", net=ROWS_BYTES, peak=ROWS_BYTES),
    # The program uses what stratatrace leaves in free lists: only compiled code can see that.
    when=leftovers() is not None,
)
def hundreds_of_children_that_each_return_a_dict() -> object:
    @child
    def parse(number: int) -> dict[str, int]:
        return {"number": number}

    @parent
    def load() -> list[object]:
        rows: list[object] = [None] * ROWS
        for index in range(ROWS):
            rows[index] = parse(1000 + index)
        return rows

    return load()


@scenario(Truth(call="child", net=THREE, peak=THREE), Truth(call="parent", net=0, peak=THREE + TWO))
def an_exception_half_way() -> object:
    @child
    def fail() -> None:
        payload = bytearray(3 * MIB)
        # The traceback keeps the frame, and that the payload, until the exception is dropped.
        raise LookupError(len(payload))

    @parent
    def cope() -> int:
        try:
            fail()
        except LookupError:
            return len(bytearray(2 * MIB))
        return 0

    return cope()


class Ring:
    """Garbage that only the collector can free."""

    def __init__(self) -> None:
        self.payload = bytearray(MIB)
        self.itself = self


@scenario(Truth(net=0, peak=0, reclaimed=10 * ONE))
def a_collection_of_the_garbage_of_others() -> object:
    # Else an automatic collection might come first.
    gc.disable()
    try:
        for _ in range(10):
            Ring()

        @call
        def collect() -> int:
            return gc.collect()

        return collect()
    finally:
        gc.enable()


# Blocks.


@scenario(Truth(net=TWO, peak=TEN + TWO))
def a_with_block() -> object:
    with profile_memory("call"):
        passing = bytearray(10 * MIB)
        kept = bytearray(2 * MIB)
        del passing
    return kept


@scenario(
    Truth(call="first", net=ONE + TWO, peak=ONE + TWO, attribution="process"),
    Truth(call="second", net=TWO, peak=TWO, attribution="process"),
)
def two_overlapping_with_blocks_in_tasks() -> object:
    async def first() -> bytearray:
        with profile_memory("first"):
            payload = bytearray(MIB)
            await asyncio.sleep(0)
        return payload

    async def second() -> bytearray:
        with profile_memory("second"):
            payload = bytearray(2 * MIB)
            await asyncio.sleep(0)
        return payload

    async def main() -> object:
        return await asyncio.gather(first(), second())

    return asyncio.run(main())


# Threads: tracemalloc cannot tell them apart, and the call must say so.


@scenario(
    Truth(probe="tracemalloc", net=ONE + THREE, peak=ONE + THREE, attribution="process"),
    Truth(probe="native", net=ONE, peak=ONE),
)
def a_thread_started_inside() -> object:
    kept: list[bytearray] = [bytearray()]

    def work() -> None:
        kept[0] = bytearray(3 * MIB)

    @call
    def start() -> bytearray:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return bytearray(MIB)

    return start()


@scenario(
    Truth(probe="tracemalloc", attribution="process"),
    Truth(probe="native", net=buffer(10 * MIB), peak=buffer(10 * MIB)),
)
def a_thread_that_allocates_beside() -> object:
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            bytearray(MIB)

    @call
    def make() -> bytearray:
        return bytearray(10 * MIB)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        return make()
    finally:
        ended.set()
        thread.join()


@scenario(
    Truth(probe="tracemalloc", calls=4, attribution="process"),
    Truth(
        probe="native",
        calls=4,
        net=tuple(buffer(number * MIB) for number in range(1, 5)),
        peak=tuple(buffer(number * MIB) + buffer(10 * MIB) for number in range(1, 5)),
    ),
)
def four_threads_side_by_side() -> object:
    all_spiked = threading.Barrier(4)
    kept: list[object] = [None] * 4
    turns = [threading.Event() for _ in range(5)]

    @call
    def work(number: int) -> None:
        kept[number] = bytearray((number + 1) * MIB)
        passing = bytearray(10 * MIB)
        all_spiked.wait(30)
        del passing
        turns[number].wait(30)

    def work_in_turn(number: int) -> None:
        work(number)
        turns[number + 1].set()

    threads = [threading.Thread(target=work_in_turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    turns[0].set()
    for thread in threads:
        thread.join()
    return kept


@scenario(
    Truth(probe="native", call="child", net=buffer(3 * MIB), peak=buffer(3 * MIB)),
    Truth(probe="native", call="parent", net=-buffer(3 * MIB), peak=0),
    Truth(probe="tracemalloc", call="child", attribution="process"),
    Truth(probe="tracemalloc", call="parent", attribution="process"),
)
def memory_freed_by_another_thread() -> object:
    kept: list[object] = [None]

    @child
    def take() -> None:
        kept[0] = bytearray(3 * MIB)

    @parent
    def drop() -> None:
        kept[0] = None

    for work in (take, drop):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return kept


# Coroutines.


def _task_sizes(number: int) -> tuple[int, int]:
    return (number + 1) * 20 * KIB, (number + 1) * 10 * KIB


@scenario(
    *(
        Truth(
            call=f"task {number}",
            label="each task",
            net=buffer(kept),
            peak=buffer(passing) + buffer(kept),
        )
        for number, (passing, kept) in enumerate(map(_task_sizes, range(50)))
    )
)
def fifty_interleaved_tasks() -> object:
    async def work(number: int) -> bytearray:
        passing_size, kept_size = _task_sizes(number)
        passing = bytearray(passing_size)
        await asyncio.sleep(0)
        kept = bytearray(kept_size)
        await asyncio.sleep(0)
        del passing
        await asyncio.sleep(0)
        return kept

    async def main() -> object:
        tasks = [profile_memory(f"task {number}")(work) for number in range(50)]
        return await asyncio.gather(*(task(number) for number, task in enumerate(tasks)))

    return asyncio.run(main())


@scenario(
    Truth(call="child", calls=3, net=TWO, peak=THREE + TWO), Truth(call="parent", net=ONE, peak=ONE)
)
def a_task_group() -> object:
    kept = [bytearray()] * 3

    @child
    async def work(place: int) -> None:
        passing = bytearray(3 * MIB)
        await asyncio.sleep(0)
        kept[place] = bytearray(2 * MIB)
        await asyncio.sleep(0)
        del passing

    @parent
    async def main() -> bytearray:
        async with asyncio.TaskGroup() as group:
            for place in range(3):
                group.create_task(work(place))
        return bytearray(MIB)

    return asyncio.run(main())


@scenario(Truth(call="child", net=TWO, peak=TWO), Truth(call="parent", net=ONE, peak=ONE + TWO))
def a_coroutine_that_awaits_another() -> object:
    async def elsewhere() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(len(bytearray(10 * MIB)) * 0)

    @child
    async def work() -> bytearray:
        payload = bytearray(2 * MIB)
        await asyncio.sleep(0)
        return payload

    @parent
    async def use() -> bytearray:
        own = bytearray(MIB)
        await work()
        return own

    async def main() -> object:
        return await asyncio.gather(use(), elsewhere())

    return asyncio.run(main())


@scenario(Truth(net=ONE, peak=TEN + ONE))
def a_cancelled_task() -> object:
    kept = [bytearray()]

    @call
    async def work() -> None:
        payload = bytearray(10 * MIB)
        kept[0] = bytearray(MIB)
        try:
            await asyncio.sleep(60)
        finally:
            # Else the traceback of the cancellation would keep it.
            del payload

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return asyncio.run(main())


# Generators.


@scenario(Truth(net=TWO, peak=THREE + TWO))
def a_generator_across_a_yield() -> object:
    @call
    def steps() -> Generator[bytearray | None, None, None]:
        first = bytearray(3 * MIB)
        yield None
        second = bytearray(2 * MIB)
        del first
        yield second

    made: list[bytearray | None] = []
    for item in steps():
        made.append(item)
        # The consumer's: the generator is suspended.
        bytearray(10 * MIB)
    return made


@scenario(Truth(net=ONE + TWO + THREE, peak=ONE + TWO + THREE))
def a_generator_sent_to() -> object:
    @call
    def make() -> Generator[bytearray, int, None]:
        size = MIB
        while size:
            size = yield bytearray(size)

    maker = make()
    made = [next(maker), maker.send(2 * MIB), maker.send(3 * MIB)]
    with suppress(StopIteration):
        maker.send(0)
    return made


@scenario(Truth(net=ONE, peak=THREE))
def a_generator_thrown_at() -> object:
    @call
    def hold() -> Generator[bytearray | None, None, None]:
        payload = bytearray(3 * MIB)
        try:
            yield None
        except LookupError:
            del payload
        yield bytearray(MIB)

    holder = hold()
    next(holder)
    made = holder.throw(LookupError())
    holder.close()
    return made


@scenario(Truth(net=0, peak=THREE))
def a_generator_closed() -> object:
    @call
    def hold() -> Generator[int, None, None]:
        payload = bytearray(3 * MIB)
        yield len(payload)
        yield len(payload)

    holder = hold()
    next(holder)
    holder.close()
    return None


@scenario(Truth(net=0, peak=THREE))
def a_generator_abandoned() -> object:
    @call
    def hold() -> Generator[int, None, None]:
        payload = bytearray(3 * MIB)
        yield len(payload)
        yield len(payload)

    holder = hold()
    next(holder)
    del holder
    return None


@scenario(Truth(call="child", net=5 * ONE, peak=5 * ONE), Truth(call="parent", net=0, peak=ONE))
def a_generator_whose_consumer_drops_the_items() -> object:
    @child
    def make() -> Generator[bytearray, None, None]:
        for _ in range(5):
            yield bytearray(MIB)

    @parent
    def consume() -> None:
        for item in make():
            item.clear()

    return consume()


@scenario(
    Truth(call="child", net=3 * ONE, peak=3 * ONE + TWO),
    Truth(call="parent", net=0, peak=TWO + ONE),
)
def an_async_generator() -> object:
    @child
    async def make() -> AsyncGenerator[bytearray, None]:
        payload = bytearray(2 * MIB)
        for _ in range(3):
            await asyncio.sleep(0)
            yield bytearray(MIB)
        del payload

    @parent
    async def consume() -> None:
        async for item in make():
            item.clear()
            await asyncio.sleep(0)

    async def elsewhere() -> None:
        for _ in range(5):
            await asyncio.sleep(len(bytearray(10 * MIB)) * 0)

    async def main() -> object:
        return await asyncio.gather(consume(), elsewhere())

    return asyncio.run(main())


@scenario(Truth(net=ONE, peak=ONE + TWO))
def an_async_generator_closed() -> object:
    @call
    async def make() -> AsyncGenerator[bytearray, None]:
        payload = bytearray(2 * MIB)
        try:
            while True:
                yield bytearray(MIB)
        finally:
            await asyncio.sleep(0)
            del payload

    async def main() -> object:
        async with aclosing(make()) as maker:
            return await anext(maker)

    return asyncio.run(main())


# Work done by C code, and memory that grows.

NUMBERS = list(range(300_000))
TEXTS = [f"{number:0100d}" for number in range(10_000)]
JSON = json.dumps(TEXTS)
WORD = re.compile(r"\d+")
LINES = "\n".join(TEXTS)


@scenario(Truth(net=sys.getsizeof(b"ab" * (5 * MIB)), peak=sys.getsizeof(b"ab" * (5 * MIB))))
def bytes_repeated() -> object:
    @call
    def repeat(times: int) -> bytes:
        return b"ab" * times

    return repeat(5 * MIB)


# What is sorted already needs no room to merge in.
@scenario(Truth(net=sys.getsizeof(sorted(NUMBERS)), peak=sys.getsizeof(sorted(NUMBERS))))
def a_list_sorted() -> object:
    @call
    def order() -> list[int]:
        return sorted(NUMBERS)

    return order()


LOADED_BYTES = sizes_of([json.loads(JSON), *json.loads(JSON)])


@scenario(Truth(net=LOADED_BYTES, peak=LOADED_BYTES))
def json_loaded() -> object:
    @call
    def load() -> Any:
        return json.loads(JSON)

    return load()


FOUND_BYTES = sizes_of([WORD.findall(LINES), *WORD.findall(LINES)])


@scenario(Truth(net=FOUND_BYTES, peak=FOUND_BYTES))
def a_regular_expression_searched() -> object:
    @call
    def find() -> list[str]:
        return WORD.findall(LINES)

    return find()


def _grown() -> bytearray:
    grown, chunk = bytearray(), bytes(64 * KIB)
    for _ in range(100):
        grown += chunk
    return grown


CHUNK_BYTES = sys.getsizeof(bytes(64 * KIB))


@scenario(Truth(net=sys.getsizeof(_grown()), peak=sys.getsizeof(_grown()) + CHUNK_BYTES))
def a_buffer_grown_in_place() -> object:
    return call(_grown)()


JOINED_BYTES = sys.getsizeof(LINES)


@scenario(Truth(net=JOINED_BYTES, peak=JOINED_BYTES))
def text_joined() -> object:
    @call
    def join() -> str:
        return "\n".join(TEXTS)

    return join()


@scenario(Truth(net=sys.getsizeof("x" * 1_000_000), peak=sys.getsizeof("x" * 1_000_000)))
def text_grown_in_place() -> object:
    @call
    def grow() -> str:
        text, chunk = "", "x" * 1_000
        for _ in range(1_000):
            text += chunk  # In place, since nobody else refers to it.
        return text

    return grow()


# numpy reports its arrays to tracemalloc.

try:
    np: Any = importlib.import_module("numpy")
except ImportError:
    np = None

ARRAY_BYTES = 8_000_000


@scenario(Truth(net=ARRAY_BYTES, peak=ARRAY_BYTES), when=np is not None)
def a_numpy_array_held() -> object:
    @call
    def ones() -> Any:
        return np.ones(ARRAY_BYTES // 8)

    return ones()


@scenario(Truth(net=0, peak=ARRAY_BYTES), when=np is not None)
def a_numpy_temporary_dropped() -> object:
    values = np.ones(ARRAY_BYTES // 8)

    @call
    def total() -> float:
        return float((values + values).sum())

    return total()


# Resident memory, with sizes that the C library always maps and unmaps at once.


def _touched(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size)
    memory[:: mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)
    return memory


@scenario(Truth(call="child", rss=200 * MIB), Truth(call="parent", rss=200 * MIB))
def a_spike_of_5_ms() -> object:
    @child
    def spike() -> None:
        with _touched(200 * MIB):
            time.sleep(0.005)

    @parent
    def spike_and_go_on() -> int:
        spike()
        with _touched(64 * MIB) as memory:
            return len(memory)

    return spike_and_go_on()


@scenario(Truth(call="child", calls=2, rss=64 * MIB), Truth(call="parent", rss=64 * MIB))
def two_spikes_after_each_other() -> object:
    @child
    def spike() -> None:
        _touched(64 * MIB).close()

    @parent
    def spike_twice() -> None:
        spike()
        spike()

    return spike_twice()


@scenario(
    Truth(call="child", calls=3, rss=64 * MIB, attribution=None),
    Truth(call="parent", rss=64 * MIB, attribution=None),
)
def a_spike_while_calls_of_three_threads_are_open() -> object:
    all_open, all_over = threading.Barrier(4), threading.Barrier(4)

    @child
    def wait() -> None:
        all_open.wait(30)
        all_over.wait(30)

    @parent
    def spike() -> None:
        all_open.wait(30)
        _touched(64 * MIB).close()
        all_over.wait(30)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    spike()
    for thread in threads:
        thread.join()
    return threads


@scenario(
    Truth(call="child", label="the task", rss=64 * MIB),
    Truth(call="parent", label="the others", calls=19, rss=0),
)
def a_spike_of_one_of_twenty_tasks() -> object:
    @child
    async def spike() -> None:
        await asyncio.sleep(0)
        _touched(64 * MIB).close()
        await asyncio.sleep(0)

    @parent
    async def wait() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def side_by_side() -> None:
        await asyncio.gather(*(wait() for _ in range(10)), spike(), *(wait() for _ in range(9)))

    return asyncio.run(side_by_side())


@scenario(
    Truth(call="child", rss=64 * MIB, net=0, peak=buffer(64 * MIB)),
    Truth(
        call="parent",
        rss=(64 + 96) * MIB,
        net=buffer(96 * MIB),
        peak=buffer(96 * MIB) + buffer(64 * MIB),
    ),
)
def buffers_with_every_page_touched() -> object:
    pages = bytes(96 * MIB // mmap.PAGESIZE)

    def filled(size: int) -> bytearray:
        payload = bytearray(size)
        payload[:: mmap.PAGESIZE] = memoryview(pages)[: size // mmap.PAGESIZE]
        return payload

    @child
    def passing() -> int:
        return len(filled(64 * MIB))

    @parent
    def keep() -> bytearray:
        kept = filled(96 * MIB)
        passing()
        return kept

    return keep()


# Calls that do nothing.


@scenario(
    empty("function"), empty("method"), empty("block"), empty("coroutine"), empty("generator")
)
def empty_calls() -> object:
    @profile_memory("function")
    def function() -> None: ...

    class Holder:
        @profile_memory("method")
        def method(self) -> None: ...

    @profile_memory("coroutine")
    async def coroutine() -> None: ...

    @profile_memory("generator")
    def generator() -> Generator[None, None, None]:
        yield

    function()
    Holder().method()
    with profile_memory("block"):
        pass
    asyncio.run(coroutine())
    return list(generator())


@scenario(empty("child", 1000), Truth(call="parent", net=0, peak=0))
def a_thousand_empty_functions() -> object:
    @child
    def nothing() -> None: ...

    @parent
    def many() -> None:
        for _ in range(1000):
            nothing()

    return many()


@scenario(empty("child", 1000), Truth(call="parent", net=0, peak=0))
def a_thousand_empty_coroutines() -> object:
    @child
    async def nothing() -> None: ...

    @parent
    async def many() -> None:
        for _ in range(1000):
            await nothing()

    return asyncio.run(many())


@scenario(empty("child", 1000), Truth(call="parent", net=0, peak=0))
def a_thousand_empty_generators() -> object:
    @child
    def nothing() -> Generator[None, None, None]:
        yield

    @parent
    def many() -> None:
        for _ in range(1000):
            for _nothing in nothing():
                pass

    return many()
