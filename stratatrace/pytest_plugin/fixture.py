"""The `memory` fixture: blocks of a test that are measured, and may have a budget."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from stratatrace.errors import NotReadyError
from stratatrace.pytest_plugin.budgets import Budget, budget_of
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from stratatrace.measurement import AttributeValue, Measurement
    from stratatrace.pytest_plugin.meter import Measured, Meter, Reading

__all__ = ["MemoryBlock", "MemoryFixture"]


class MemoryBlock:
    """A ``with`` block of a test that is, or was, measured.

    Whether other threads or tasks can be in the numbers is told by ``measurement.attribution``.
    """

    def __init__(
        self,
        label: str,
        budget: Budget | None,
        meter: Meter,
        when_measured: Callable[[MemoryBlock], None],
    ) -> None:
        #: What it is called in reports.
        self.label = label
        self._budget = budget
        self._meter = meter
        self._when_measured = when_measured
        self._reading: Reading | None = None
        self._measured: Measured | None = None

    def __enter__(self) -> Self:
        """Begin to measure.

        Raises:
            NotReadyError: It was entered before: each block is measured once.
        """
        if self._reading is not None or self._measured is not None:
            msg = f"the block {self.label!r} was entered before: write `with memory():` for another"
            raise NotReadyError(msg)
        self._reading = self._meter.begin(self.label, dropped_bytes=_BOUND_BYTES)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End measuring; fail the test where the block has broken its budget, and not raised."""
        __tracebackhide__ = True  # Of interest is where the block stands.
        reading, self._reading = self._reading, None
        if reading is None:
            return
        self._measured = measured = reading.end()
        self._when_measured(self)
        if error is not None or self._budget is None:
            return
        problem = self._budget.broken_by(measured)
        if problem is not None:
            pytest.fail(f"memory block {self.label!r}: {problem}")

    @property
    def measurement(self) -> Measurement:
        """All numbers of the block; those that were not measured are None.

        Raises:
            NotReadyError: It has not ended.
        """
        return self._ended.measurement

    @property
    def heap_peak_bytes(self) -> int:
        """The highest that the heap stood above its level at the start of the block.

        Raises:
            NotReadyError: The block has not ended, or it was not measured, and why.
        """
        return self._number(self._ended.heap_peak_bytes, "heap peak")

    @property
    def heap_net_bytes(self) -> int:
        """What was allocated in the block, less what was freed: negative where that is more.

        Raises:
            NotReadyError: The block has not ended, or it was not measured, and why.
        """
        return self._number(self._ended.measurement.heap_net_bytes, "net heap")

    @property
    def rss_peak_growth_bytes(self) -> int:
        """By how much resident memory, which is the whole process's, rose at most.

        Raises:
            NotReadyError: The block has not ended, or it was not measured, and why.
        """
        return self._number(self._ended.rss_peak_growth_bytes, "RSS peak")

    def to_dict(self) -> dict[str, AttributeValue | None]:
        """Return the numbers for machines."""
        return self.measurement.to_dict()

    def __str__(self) -> str:
        """Return the numbers for people."""
        if self._measured is None:
            return f"memory block {self.label!r}, which has not ended"
        measurement = self._measured.measurement
        numbers = {
            "heap peak": measurement.heap_peak_bytes,
            "net": measurement.heap_net_bytes,
            "RSS peak growth": self._measured.rss_peak_growth_bytes,
        }
        told = [f"{name} {format_size(n)}" for name, n in numbers.items() if n is not None]
        return f"memory block {self.label!r}: {', '.join(told) or 'not measured'}"

    @property
    def _ended(self) -> Measured:
        if self._measured is None:
            msg = f"the block {self.label!r} has not ended: read its numbers after the block"
            raise NotReadyError(msg)
        return self._measured

    def _number(self, number: int | None, title: str) -> int:
        if number is None:
            reason = self._ended.obstacle or "nothing here can tell it"
            msg = f"the {title} of block {self.label!r} could not be measured: {reason}"
            raise NotReadyError(msg)
        return number


# The bound `__exit__`, which a ``with`` statement makes before the block, and drops as it calls it.
_BOUND_BYTES = sys.getsizeof(MemoryBlock.__exit__.__get__(object.__new__(MemoryBlock)))


def _untold(_block: MemoryBlock) -> None:
    pass


class MemoryFixture:
    """What a test that takes ``memory`` gets: call it for a block.

    ::

        def test_load(memory):
            with memory("load") as block:
                load()
            assert block.heap_peak_bytes < 50_000_000

            with memory(budget="50MB"):
                load()
    """

    def __init__(self, meter: Meter, when_measured: Callable[[MemoryBlock], None]) -> None:
        self._meter = meter
        self._when_measured = when_measured
        self._made = 0
        # The latest two, so that a name which is used for the next block frees nothing within it.
        self._latest: tuple[MemoryBlock, ...] = ()

    def __call__(
        self,
        label: str | None = None,
        *,
        budget: int | str | None = None,
        rss_peak: int | str | None = None,
    ) -> MemoryBlock:
        """Return a block, to be entered by ``with``.

        Args:
            label: What to call it in reports; a number by default.
            budget: The heap peak that it may reach: bytes, or text such as ``"50MB"``.
            rss_peak: By how much the process's resident memory may rise.

        Raises:
            InvalidTypeError: A budget is no size.
            InvalidValueError: A size makes no sense.
        """
        held = None
        if budget is not None or rss_peak is not None:
            held = budget_of(heap_peak=budget, rss_peak=rss_peak)
        self._made += 1
        # Only what has a name is told by it: a loop may make very many that have none.
        told = _untold if label is None else self._when_measured
        block = MemoryBlock(label or f"block {self._made}", held, self._meter, told)
        self._latest = (*self._latest[-1:], block)
        return block
