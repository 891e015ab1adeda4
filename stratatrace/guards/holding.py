"""Our own memory, which is charged to nobody's call.

`active.own_work` does the same in a ``with`` statement, whose own objects are made before it begins
and dropped after it has: 64 bytes each time, which is too much in a loop.
"""

from __future__ import annotations

from stratatrace.recorder import active

__all__ = ["hold", "unhold"]


def hold() -> object:
    """Charge no call until `unhold`, which is given what this returns."""
    return active.recorder.hold() if active.started else None


def unhold(held: object) -> None:
    """Charge calls again."""
    if held is not None and active.started:
        active.recorder.unhold(held)
