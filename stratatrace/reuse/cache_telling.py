"""Makes sure that the metrics of caches have somebody to be told to."""

from __future__ import annotations

from stratatrace.measurement import Callsite
from stratatrace.pressure.sources import readings
from stratatrace.recorder import active
from stratatrace.telemetry.caches import cache_metrics

__all__ = ["OFFER_EVERY", "offer_metrics"]

#: A cache offers at each miss, and once in so many hits.
OFFER_EVERY = 256


def offer_metrics(kind: str, name: str) -> None:
    """Offer the metrics to the provider that is told of calls as well.

    Args:
        kind: What fails where this does.
        name: Of the cache.
    """
    provider = active.recorder.meter_provider if active.started else None
    if cache_metrics.is_offered(provider):
        return
    try:
        with active.own_work():
            cache_metrics.offer(provider)
    except Exception:
        readings.guard.caught(Callsite(name=kind, function=name), "offer metrics")
