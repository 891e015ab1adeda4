"""A plugin that has everything sampled that is counted: `PYTHONPATH=tests pytest -p sampled`.

What is counted must not change by one byte. Processes that the tests run are not sampled.
"""

from __future__ import annotations

import contextlib

from stratatrace.probes import _counters

MEAN_BYTES = 500

_start = _counters.start


def start() -> None:
    """Begin to count, and to sample."""
    _start()
    with contextlib.suppress(RuntimeError):  # Another thread has ended it meanwhile.
        _counters.sample(MEAN_BYTES, 8)


_counters.start = start
