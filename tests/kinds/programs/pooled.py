"""Measured callables that worker processes find by name."""

from __future__ import annotations

from functools import partial

from stratatrace import profile_memory


@profile_memory
def double(value: int) -> int:
    """Double it."""
    return value * 2


@profile_memory(name="tripled")
def triple(value: int) -> int:
    """Triple it."""
    return value * 3


class Adder:
    """Adds, in every kind of method."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    @profile_memory
    def add(self, value: int) -> int:
        """Add the amount."""
        return value + self.amount

    @classmethod
    @profile_memory
    def add_one(cls, value: int) -> int:
        """Add one."""
        return value + 1

    @profile_memory
    @staticmethod
    def add_two(value: int) -> int:
        """Add two."""
        return value + 2


@profile_memory
class Measured:
    """A class that is decorated as a whole."""

    def negate(self, value: int) -> int:
        """Negate it."""
        return -value


CASES = {
    "function": (double, [2, 4]),
    "named": (triple, [3, 6]),
    "method": (Adder(5).add, [6, 7]),
    "class method": (Adder.add_one, [2, 3]),
    "static method": (Adder.add_two, [3, 4]),
    "partial of it": (partial(double), [2, 4]),
    "method of a class": (Measured().negate, [-1, -2]),
}
