"""What a pool tells of itself: its callsites, and its metrics through the recorder's provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from stratatrace.calls import annotate
from stratatrace.callsites import Options, describe_function
from stratatrace.measurement import Callsite
from stratatrace.recorder import active
from stratatrace.telemetry import semconv
from stratatrace.telemetry.pools import pool_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.calls import AnyCall
    from stratatrace.measurement import Measurement
    from stratatrace.recorder import Recorder
    from stratatrace.reuse.pool_ledger import Ledger
    from stratatrace.telemetry.pools import Pooled
    from stratatrace.typing import AttributeValue

__all__ = ["Teller"]


class Teller:
    """Tells of one pool.

    Args:
        factory: What makes its objects.
        name: What the user calls it; None takes the factory's name.
    """

    def __init__(self, factory: Callable[[], Any], name: str | None) -> None:
        described = describe_function(factory, Options())
        self.name = name or described.function
        attributes: dict[str, AttributeValue] = {semconv.POOL_NAME.name: self.name}
        #: The factory.
        self.made_by = describe_function(factory, Options(attributes=attributes))
        #: A request that has an object made, or waits for one.
        request = f"acquire {name or described.name}"
        self.acquired_at = Callsite(
            name=request,
            label=request,
            function="stratatrace.MemoryPool.acquire",
            attributes=attributes,
        )
        self._introduced_to: ref[Recorder] | None = None
        self._pool: ref[Pooled] | None = None
        self._ledger: Ledger | None = None

    def tell_of(self, pool: Pooled, ledger: Ledger) -> None:
        """Tell of that pool, which is not kept for it, and of its counters."""
        self._pool = ref(pool)
        self._ledger = ledger

    def introduce(self) -> None:
        """Have the pool told of by the metrics of the recorder in force."""
        if not active.enabled:
            return
        try:
            recorder = active.recorder
            if self._introduced_to is not None and self._introduced_to() is recorder:
                return
            pool = self._pool() if self._pool is not None else None
            if pool is None or self._ledger is None or recorder.config.disabled:
                return
            with active.own_work():
                pool_metrics(recorder.meter_provider).add(self.name, pool, self._ledger)
                self._introduced_to = ref(recorder)
        except Exception:
            self._caught()

    def made(self, took_ns: int, measurement: Measurement | None) -> None:
        """An object was made."""
        cost_bytes = None if measurement is None else measurement.heap_net_bytes
        if self._ledger is not None:
            self._ledger.created(took_ns, cost_bytes)
        self._record("create_time", took_ns / 1e9)

    def waited(self, seconds: float, call: AnyCall) -> None:
        """An object has come for which somebody has waited."""
        annotate(call, {semconv.POOL_WAIT.name: seconds})
        with active.own_work():
            self._record("wait_time", seconds)

    def _record(self, what: str, seconds: float) -> None:
        recorder = self._introduced_to() if self._introduced_to is not None else None
        if recorder is None:
            return
        try:
            metrics = pool_metrics(recorder.meter_provider)
            if what == "create_time":
                metrics.record_create_time(self.name, seconds)
            else:
                metrics.record_wait_time(self.name, seconds)
        except Exception:
            recorder.guard.caught(self.made_by, "tell of a pool")

    def of_acquisition(self, *, created: bool) -> dict[str, AttributeValue]:
        """Return the attributes of a request that has its object."""
        return {semconv.POOL_CREATED.name: created}

    def _caught(self) -> None:
        if active.started:
            active.recorder.guard.caught(self.made_by, "tell of a pool")
