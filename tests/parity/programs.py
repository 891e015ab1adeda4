"""Programs that take memory in every way that Python has; each returns what it keeps."""

from __future__ import annotations

import contextvars
import itertools
import json
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: dict[str, Callable[[], object]] = {}


def program(function: Callable[[], object]) -> Callable[[], object]:
    """Add a program under its name."""
    PROGRAMS[function.__name__] = function
    return function


DOCUMENT = {
    "items": [{"id": i, "text": "ä" * i, "share": i / 7, "tags": [str(i)] * 3} for i in range(200)]
}
TEXT = json.dumps(DOCUMENT)


class Plain:
    """An instance with attributes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.others = [number]


class Slotted:
    """An instance with slots."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


@program
def nothing() -> object:
    return None


@program
def bytes_of_every_small_size() -> object:
    return [bytearray(size) for size in range(600)]


@program
def bytes_of_large_sizes() -> object:
    sizes = (1_000, 4_096, 65_535, 65_536, 131_072, 1 << 20, 10_000_001)
    return [bytearray(size) for size in sizes]


@program
def a_spike() -> object:
    del bytearray(5_000_000)[:]
    return bytearray(77)


@program
def ints() -> object:
    return [10**n for n in range(300)]


@program
def floats() -> object:
    return [n / 7 for n in range(1_000)]


@program
def short_strings() -> object:
    return [str(n) for n in range(100_000, 103_000)]


@program
def strings_of_all_widths() -> object:
    return ["a" * 1_000, "ä" * 1_000, "€" * 1_000, "🐍" * 1_000, "x" * 300_000]


@program
def a_string_that_grows() -> object:
    text = ""
    for n in range(2_000):
        text += str(n)
    return text


@program
def a_list_that_grows() -> object:
    numbers: list[object] = []
    for _ in range(20_000):
        numbers.append(None)  # noqa: PERF401 -- it grows by reallocation
    return numbers


@program
def a_list_that_grows_and_shrinks() -> object:
    numbers = [None] * 50_000
    while len(numbers) > 10:
        numbers.pop()
    return numbers


@program
def a_bytearray_resized_in_place_and_moved() -> object:
    kept = []
    data = bytearray(10)
    for size in (20, 200, 250, 254, 255, 256, 300, 512, 513, 5_000, 900, 100, 1 << 20, 7, 300_000):
        data.extend(bytes(max(0, size - len(data))))
        del data[size:]
        kept.append(bytes(data[:3]))
    return data, kept


@program
def dicts_that_grow() -> object:
    return [{n: n for n in range(size)} for size in range(120)]


@program
def a_dict_with_strings() -> object:
    return {f"key {n}": n for n in range(1_000)}


@program
def sets_that_grow() -> object:
    return [set(range(size)) for size in range(120)], frozenset(range(500))


@program
def tuples_of_every_length() -> object:
    return [tuple(range(size)) for size in range(40)]


@program
def instances() -> object:
    return [Plain(n) for n in range(300)], [Slotted(n) for n in range(300)]


@program
def instances_with_a_dict() -> object:
    made = [Plain(n) for n in range(100)]
    return made, [vars(instance) for instance in made]


@program
def closures_and_generators() -> object:
    def numbers(limit: int) -> Iterator[int]:
        yield from range(limit)

    started = [numbers(n) for n in range(50)]
    for generator in started[1:]:
        next(generator)
    return started, [lambda n=n: n for n in range(50)]


@program
def a_deep_recursion() -> object:
    def descend(depth: int) -> list[Any]:
        return [descend(depth - 1)] if depth else []

    return descend(300)


@program
def exceptions() -> object:
    caught = []
    for n in range(50):
        try:
            raise ValueError(n)  # noqa: TRY301 -- it is what is measured
        except ValueError as error:
            caught.append(error)
    return caught


@program
def json_loads() -> object:
    return json.loads(TEXT)


@program
def json_dumps() -> object:
    return json.dumps(DOCUMENT, indent=1)


@program
def a_deque() -> object:
    queue = deque(range(1_000))
    for _ in range(900):
        queue.popleft()
    return queue


@program
def contexts() -> object:
    return [contextvars.copy_context() for _ in range(20)]


@program
def iterators() -> object:
    return list(itertools.permutations(range(5))), list(zip(range(300), range(300), strict=True))


@program
def compressed() -> object:
    return zlib.compress(TEXT.encode() * 20), zlib.decompress(zlib.compress(bytes(1 << 20)))


@program
def compiled() -> object:
    return compile("def f(x):\n    return [x, {x: 'text'}, x ** 2]\n" * 20, "<made>", "exec")
