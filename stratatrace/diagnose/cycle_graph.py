"""Which objects refer to each other in circles, among those that were captured."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["Edges", "cyclic_parts", "edges_among", "reached_from", "shortest_circle"]

#: Of each object, the places of what it refers to, in its own order; None is not among them.
Edges = list[list[int | None]]


def edges_among(objects: Sequence[object]) -> Edges:
    """Return what refers to what, by places in *objects*."""
    places = {id(item): place for place, item in enumerate(objects)}
    place_of, referents = places.get, gc.get_referents
    return [[*map(place_of, map(id, referents(item)))] for item in objects]


def cyclic_parts(edges: Edges, among: Collection[int] | None = None) -> list[list[int]]:  # noqa: C901, PLR0912 -- one loop, for its speed
    """Return the parts in which each object can be reached from each: those with a circle.

    Tarjan's algorithm ("Depth-first search and linear graph algorithms", 1972), without recursion.

    Args:
        edges: What refers to what.
        among: Look at these objects only, and at what refers from one of them to another.
    """
    done = len(edges) + 1
    # Of each object the number by which it was found, and the least that it leads back to.
    numbers = [0 if among is None else done] * len(edges)
    for place in among or ():
        numbers[place] = 0
    lows = numbers.copy()
    parts: list[list[int]] = []
    stack: list[int] = []
    counted = 0
    for root in range(len(edges)) if among is None else among:
        if numbers[root]:
            continue
        counted += 1
        numbers[root] = lows[root] = counted
        stack.append(root)
        above: list[tuple[int, Iterator[int | None]]] = []
        one, rest = root, iter(edges[root])
        while True:
            for other in rest:
                if other is None:
                    continue
                number = numbers[other]
                if not number:
                    counted += 1
                    numbers[other] = lows[other] = counted
                    stack.append(other)
                    above.append((one, rest))
                    one, rest = other, iter(edges[other])
                    break
                if number < lows[one]:  # noqa: PLR1730 -- for its speed
                    lows[one] = number
            else:
                low = lows[one]
                if low == numbers[one]:
                    first = len(stack) - 1
                    while stack[first] != one:
                        first -= 1
                    part = stack[first:]
                    del stack[first:]
                    for place in part:
                        numbers[place] = done
                    if len(part) > 1 or one in edges[one]:
                        parts.append(part)
                if not above:
                    break
                one, rest = above.pop()
                if low < lows[one]:  # noqa: PLR1730 -- for its speed
                    lows[one] = low
    return parts


def shortest_circle(edges: Edges, start: int, part: Collection[int]) -> list[int]:
    """Return a shortest way from *start* back to it, without it at the end; breadth first.

    Args:
        edges: What refers to what.
        start: An object of the part.
        part: A part that `cyclic_parts` has returned, as a set.
    """
    came_from = {start: start}
    level = [start]
    while level:
        below: list[int] = []
        for one in level:
            for other in edges[one]:
                if other == start:
                    return _way(came_from, start, one)
                if other is not None and other in part and other not in came_from:
                    came_from[other] = one
                    below.append(other)
        level = below
    return [start]


def _way(came_from: dict[int, int], start: int, last: int) -> list[int]:
    way = [last]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    way.reverse()
    return way


def reached_from(edges: Edges, starts: Iterable[int], seen: set[int]) -> list[int]:
    """Return what can be reached from *starts* and is not in *seen*, and add it there."""
    found: list[int] = []
    level = list(starts)
    while level:
        one = level.pop()
        for other in edges[one]:
            if other is not None and other not in seen:
                seen.add(other)
                found.append(other)
                level.append(other)
    return found
