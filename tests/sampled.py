"""A plugin that has everything sampled that is counted: `PYTHONPATH=tests pytest -p sampled`.

What is counted must not change by one byte. Processes that the tests run do so, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stratatrace.probes import _counters

MEAN_BYTES = 500
SAMPLED_FOLDER = Path(__file__).parent / "native" / "sampled"

_start = _counters.start


def start() -> None:
    """Begin to count, and to sample."""
    _start()
    _counters.sample(MEAN_BYTES, 8)


_counters.start = start
if str(SAMPLED_FOLDER) not in sys.path:
    paths = [str(SAMPLED_FOLDER), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
