"""Functions that leak, and functions that only look like it, of which the truth is known.

Each pattern makes a function of its own, with its own state, so that none sees that of another.
What it is given is closed when it has been looked at.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import importlib
import itertools
import json
import logging
import random
import re
import sys
import threading
import weakref
from array import array
from collections import OrderedDict, deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATTERNS", "Pattern"]


@dataclass(frozen=True)
class Pattern:
    """A function that is made for one trial, and whether it leaks."""

    name: str
    leaks: bool
    make: Callable[[ExitStack], Callable[[], object]]


PATTERNS: list[Pattern] = []
# What was interned once may stay: each trial has names of its own.
_NAMES = itertools.count()


def _pattern(*, leaks: bool) -> Callable[[Any], Any]:
    def add(make: Any) -> Any:
        PATTERNS.append(Pattern(make.__name__, leaks, make))
        return make

    return add


leaking = _pattern(leaks=True)
innocent = _pattern(leaks=False)


class Node:
    """An object like any other."""

    def __init__(self, other: object = None) -> None:
        self.other = other
        self.values = [0.5] * 4


# What leaks.


@leaking
def cache_without_bound(_: ExitStack) -> Any:
    """Be filled for ever by new keys."""
    cache: dict[int, Node] = {}
    numbers = itertools.count()
    return lambda: cache.setdefault(next(numbers), Node())


@leaking
def lru_cache_without_bound(_: ExitStack) -> Any:
    """Remember every argument."""
    numbers = itertools.count(1000)

    @functools.lru_cache(maxsize=None)  # noqa: UP033 -- as people write it
    def squared(number: int) -> int:
        return number * number

    return lambda: squared(next(numbers))


@leaking
def interned_strings(_: ExitStack) -> Any:
    """Intern names that are made, and keep them."""
    names: set[str] = set()
    return lambda: names.add(sys.intern(f"a_name_that_was_made_{next(_NAMES)}"))


@leaking
def modules_made_again(held: ExitStack) -> Any:
    """Register a module of a new name each time."""
    numbers = itertools.count()
    names: list[str] = []
    held.callback(lambda: [sys.modules.pop(name) for name in names])

    def make() -> None:
        name = f"_leak_corpus_made_{next(numbers)}"
        names.append(name)
        sys.modules[name] = type(sys)(name)

    return make


@leaking
def thread_local_that_grows(_: ExitStack) -> Any:
    """Append to what only this thread sees."""
    local = threading.local()
    local.items = []
    return lambda: local.items.append(Node())


@leaking
def closure_that_grows(_: ExitStack) -> Any:
    """Keep what was computed in a variable that a function has closed over."""
    kept: list[list[int]] = []

    def add() -> None:
        kept.append(list(range(20)))

    return add


@leaking
def bytearrays(_: ExitStack) -> Any:
    """Keep buffers, which the collector does not track."""
    kept: deque[bytearray] = deque()
    return lambda: kept.append(bytearray(200))


@leaking
def arrays(_: ExitStack) -> Any:
    """Keep a buffer that grows, in one object."""
    kept = array("d")
    return lambda: kept.extend((0.5,) * 32)


@leaking
def numpy_arrays(_: ExitStack) -> Any:
    """Keep data that numpy allocates."""
    kept: list[np.ndarray[Any, Any]] = []
    return lambda: kept.append(np.ones(50))


@leaking
def untracked_tuples(_: ExitStack) -> Any:
    """Keep tuples of numbers and texts."""
    kept: list[tuple[float, str]] = []
    numbers = itertools.count()
    return lambda: kept.append((next(numbers) / 7, str(next(numbers))))


@leaking
def suspended_generators(_: ExitStack) -> Any:
    """Begin generators, keep them, and never go on."""

    def numbers() -> Any:
        mine = [0.5] * 10
        yield mine

    kept: list[Any] = []

    def begin() -> None:
        kept.append(numbers())
        next(kept[-1])

    return begin


@leaking
def weakref_callbacks(held: ExitStack) -> Any:
    """Watch an object that stays, each time anew."""
    watched = Node()
    held.callback(gc.collect)
    kept: list[Any] = []
    return lambda: kept.append(weakref.ref(watched, lambda _: None))


@leaking
def logging_handlers(held: ExitStack) -> Any:
    """Add a handler with every call."""
    logger = logging.getLogger("leak_corpus.handlers")
    held.callback(logger.handlers.clear)
    return lambda: logger.addHandler(logging.NullHandler())


@leaking
def context_variable_that_chains(held: ExitStack) -> Any:
    """Set a variable to what refers to its value before, and never reset it."""
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("chained", default=None)
    held.callback(lambda: variable.set(None))
    return lambda: variable.set(Node(variable.get()))


@leaking
def exceptions_with_tracebacks(_: ExitStack) -> Any:
    """Keep errors, and with their frames all of their variables."""
    errors: list[Exception] = []

    def fail() -> None:
        payload = [0.5] * 50
        try:
            payload.index(2.0)
        except ValueError as error:
            errors.append(error)

    return fail


@leaking
def cycles_with_a_list_that_keeps_them(_: ExitStack) -> Any:
    """Keep one object of each cycle."""
    kept: list[Node] = []

    def make() -> None:
        one, two = Node(), Node()
        one.other, two.other = two, one
        kept.append(one)

    return make


@leaking
def listeners_never_removed(_: ExitStack) -> Any:
    """Register a bound method of a new object with each call."""
    listeners: list[Callable[[], None]] = []

    class View:
        def __init__(self) -> None:
            self.rows = [0] * 20

        def refresh(self) -> None: ...

    return lambda: listeners.append(View().refresh)


@leaking
def every_tenth_call(_: ExitStack) -> Any:
    """Leak seldom, and more at once."""
    numbers = itertools.count()
    kept: list[bytes] = []

    def work() -> None:
        if next(numbers) % 10 == 0:
            kept.append(bytes(2000))

    return work


@leaking
def leak_beside_a_sawtooth(_: ExitStack) -> Any:
    """Leak a little, and fill and empty a batch."""
    kept: list[bytearray] = []
    batch: list[bytearray] = []

    def work() -> None:
        kept.append(bytearray(300))
        batch.append(bytearray(100))
        if len(batch) == 12:
            batch.clear()

    return work


@leaking
def in_another_thread(_: ExitStack) -> Any:
    """Leak what a worker has allocated."""
    kept: list[Node] = []

    def work() -> None:
        thread = threading.Thread(target=lambda: kept.append(Node()))
        thread.start()
        thread.join()

    return work


@leaking
def tasks_that_never_end(_: ExitStack) -> Any:
    """Begin a task with every call that waits for ever."""
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        await asyncio.sleep(0)

    return work


# What does not.


@innocent
def nothing_kept(_: ExitStack) -> Any:
    """Allocate much, and give it back."""
    return lambda: [Node() for _ in range(50)]


@innocent
def lru_cache_with_bound(_: ExitStack) -> Any:
    """Remember the latest few."""
    numbers = itertools.count(1000)

    @functools.lru_cache(maxsize=32)
    def text(number: int) -> str:
        return str(number) * 10

    return lambda: text(next(numbers))


@innocent
def cache_of_a_thousand_that_fills(_: ExitStack) -> Any:
    """Fill slowly to a bound that is far away."""
    cache: OrderedDict[int, list[int]] = OrderedDict()
    numbers = itertools.count()

    def work() -> None:
        cache[next(numbers)] = [1, 2, 3]
        if len(cache) > 1000:
            cache.popitem(last=False)

    return work


@innocent
def cache_of_few_keys(_: ExitStack) -> Any:
    """Be asked for the same forty keys at random."""
    chance = random.Random(1)
    cache: dict[int, str] = {}

    def work() -> None:
        key = chance.randrange(40)
        cache.setdefault(key, "x" * (100 + key))

    return work


@innocent
def imports_on_first_call(_: ExitStack) -> Any:
    """Import within the function."""

    def work() -> object:
        return importlib.import_module("colorsys").rgb_to_hsv(0.1, 0.2, 0.3)

    return work


@innocent
def warms_up(_: ExitStack) -> Any:
    """Make its tables in the first calls."""
    tables: list[list[float]] = []

    def work() -> None:
        if len(tables) < 8:
            tables.append([0.5] * 500)

    return work


@innocent
def registered_once(_: ExitStack) -> Any:
    """Register by a name that is the same each time."""
    registry: dict[str, Node] = {}

    def work() -> None:
        registry["handler"] = Node()

    return work


@innocent
def cycles_that_the_collector_frees(_: ExitStack) -> Any:
    """Make cycles, and let them go."""

    def work() -> None:
        one, two = Node(), Node()
        one.other, two.other = two, one

    return work


@innocent
def sawtooth_batches(_: ExitStack) -> Any:
    """Fill a batch for forty calls, and empty it."""
    batch: list[bytes] = []

    def work() -> None:
        batch.append(bytes(500))
        if len(batch) == 40:
            batch.clear()

    return work


@innocent
def random_sizes(_: ExitStack) -> Any:
    """Hold one buffer, of another size each time."""
    chance = random.Random(2)
    held: list[bytes] = [b""]

    def work() -> None:
        held[0] = bytes(chance.randrange(100_000))

    return work


@innocent
def grows_and_shrinks(_: ExitStack) -> Any:
    """Walk at random around a middle."""
    chance = random.Random(3)
    held: list[bytes] = []

    def work() -> None:
        if chance.random() * 20 > len(held):
            held.append(bytes(1000))
        else:
            held.pop()

    return work


@innocent
def dictionary_that_resizes(_: ExitStack) -> Any:
    """Use one key after the other of a dictionary, and delete the one before."""
    table: dict[int, int] = {}
    numbers = itertools.count()

    def work() -> None:
        number = next(numbers)
        table[number] = number
        table.pop(number - 30, None)

    return work


# What is interned stays for ever in Python 3.12.
@_pattern(leaks=sys.version_info[:2] == (3, 12))
def interned_and_let_go(_: ExitStack) -> Any:
    """Intern names that nobody keeps."""

    def work() -> None:
        sys.intern(f"a_name_that_goes_{next(_NAMES)}")

    return work


@innocent
def regular_expressions(_: ExitStack) -> Any:
    """Have the same few patterns compiled again and again."""
    numbers = itertools.cycle(range(5))
    return lambda: re.compile(f"a{{{next(numbers) + 1}}}b+").match("aab")


@innocent
def json_there_and_back(_: ExitStack) -> Any:
    """Parse, and write."""
    text = json.dumps([{"key": number, "name": str(number)} for number in range(50)])
    return lambda: json.dumps(json.loads(text))


@innocent
def pool_of_buffers(_: ExitStack) -> Any:
    """Take a buffer from a pool, and give it back."""
    pool = [bytearray(1000) for _ in range(4)]

    def work() -> None:
        buffer = pool.pop() if pool else bytearray(1000)
        buffer[:5] = b"hello"
        pool.append(buffer)

    return work


@innocent
def ring_of_the_latest(_: ExitStack) -> Any:
    """Keep the latest two hundred, which takes a while to fill."""
    latest: deque[Node] = deque(maxlen=200)
    return lambda: latest.append(Node())


@innocent
def generators_closed(_: ExitStack) -> Any:
    """Leave a generator in the midst of it."""

    def numbers() -> Any:
        mine = [0.5] * 100
        yield from mine

    return lambda: next(numbers())


@innocent
def errors_caught(_: ExitStack) -> Any:
    """Fail, and be caught."""

    def work() -> None:
        with suppress(ValueError):
            [0.5].index(2.0)

    return work


@innocent
def weak_values(_: ExitStack) -> Any:
    """Remember by weak references what goes at once."""
    known: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
    numbers = itertools.count()

    def work() -> None:
        known[next(numbers)] = Node()

    return work


@innocent
def context_variable_set(held: ExitStack) -> Any:
    """Set a variable, with no way back."""
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("latest", default=None)
    held.callback(lambda: variable.set(None))
    return lambda: variable.set(Node())


@innocent
def numpy_temporaries(_: ExitStack) -> Any:
    """Compute, and keep one result."""
    result = np.zeros(200)

    def work() -> None:
        result[:] = np.sqrt(np.arange(200.0)) + result / 2

    return work


@innocent
def freed_by_a_thread(_: ExitStack) -> Any:
    """Hand over what another thread lets go."""
    handed: list[Node] = []

    def work() -> None:
        handed.append(Node())
        thread = threading.Thread(target=handed.clear)
        thread.start()
        thread.join()

    return work


@innocent
def tasks_awaited(_: ExitStack) -> Any:
    """Begin tasks, and wait for them."""

    async def child() -> list[float]:
        await asyncio.sleep(0)
        return [0.5] * 20

    async def work() -> None:
        await asyncio.gather(*(child() for _ in range(3)))

    return work
