"""How near the end of memory is: a reading of all sources, and word of it to those who can shrink.

The sources are in `stratatrace.probes`. Nothing here knows caches, pools or limits: they subscribe.
"""

from __future__ import annotations

from stratatrace.pressure.reading import LEVELS, MemoryScope, Pressure, PressureThresholds
from stratatrace.pressure.sources import memory_pressure
from stratatrace.pressure.watching import Subscription, subscribe

__all__ = [
    "LEVELS",
    "MemoryScope",
    "Pressure",
    "PressureThresholds",
    "Subscription",
    "memory_pressure",
    "subscribe",
]
