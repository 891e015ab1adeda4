"""How far a process grows under a budget of 100 MB, by what it does; and what a limit costs.

Each case runs in fresh processes, and the kernel's high-water mark tells the truth. The numbers in
the last row are those of a trial of the same hybrid, by hand, which this must not be worse than.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace import MemoryLimitExceeded, memory_limit

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
BUDGET_BYTES = 100 * MB
# What a case may take should nothing end it.
MOST_BYTES = 1_000 * MB


def small_lists() -> None:
    """Append small lists to one large list."""
    kept = []
    for _ in range(MOST_BYTES // 100):
        kept.append([0, 1, 2])  # noqa: PERF401 -- a loop in Python is the case


def arrays() -> None:
    """Make arrays of 40 MB, and keep them."""
    import numpy as np  # noqa: PLC0415 -- imported before it is measured

    kept = []
    for _ in range(MOST_BYTES // (40 * MB)):
        kept.append(np.ones(40 * MB, dtype=np.uint8))  # noqa: PERF401 -- likewise


def one_array() -> None:
    """Make one array of 600 MB."""
    import numpy as np  # noqa: PLC0415 -- likewise

    np.ones(600 * MB, dtype=np.uint8)


def doubling() -> None:
    """Double a bytes object."""
    text = b"x" * MB
    while len(text) < MOST_BYTES // 2:
        text += text


def one_call() -> None:
    """Make a list of 12 million ints in one call, in which no other thread can run."""
    list(range(12_000_000))


CASES: dict[str, Callable[[], None]] = {
    "small lists": small_lists,
    "numpy 40 MB chunks": arrays,
    "numpy 600 MB at once": one_array,
    "bytes doubling": doubling,
    "list(range(12M))": one_call,
}
#: The trial's peaks, in MB.
TRIAL = {
    "small lists": 105,
    "numpy 40 MB chunks": 123,
    "numpy 600 MB at once": 3,
    "bytes doubling": 97,
    "list(range(12M))": 70,
}


def status_bytes(field: str) -> int:
    """Return a size of ``/proc/self/status``."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"\n{field}:")[2].split(None, 1)[0]) * 1024


def peak_growth(case: str) -> float:
    """Run a case in this process; return by how many MB its resident memory stood above entry."""
    if case.startswith("numpy"):
        import numpy  # noqa: F401, ICN001, PLC0415 -- so that its import is not in the number
    logging.disable()
    with memory_limit(BUDGET_BYTES):
        pass  # The watchdog's thread is there.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before_bytes = status_bytes("VmRSS")
    try:
        with memory_limit(BUDGET_BYTES):
            CASES[case]()
    except MemoryLimitExceeded:
        pass
    else:
        msg = f"{case}: the limit did not hold"
        raise SystemExit(msg)
    return (status_bytes("VmHWM") - before_bytes) / MB


def in_a_process(case: str) -> float:
    """Return the peak growth of a case in a process of its own."""
    command = [sys.executable, __file__, "--case", case]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return float(ran.stdout)


def print_peaks(rounds: int) -> bool:
    """Print the table of peaks; return whether each is no worse than the trial's."""
    print(f"peak growth under a budget of {BUDGET_BYTES // MB} MB, in MB (median of {rounds})")
    print(f"{'':22}{'limited':>9}{'worst':>9}{'of budget':>11}{'trial':>9}")
    good = True
    for case in CASES:
        peaks = [in_a_process(case) for _ in range(rounds)]
        median = statistics.median(peaks)
        good = good and round(median) <= TRIAL[case]
        print(
            f"{case:22}{median:9.1f}{max(peaks):9.1f}{median * MB / BUDGET_BYTES:10.2f}x"
            f"{TRIAL[case]:9}"
        )
    return good


def nanoseconds(work: Callable[[], Any], calls: int) -> float:
    """Return how long a call takes."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - started) / calls


def print_costs(pairs: int) -> None:
    """Print what a limited call costs beside a bare one, and a busy program under a limit."""

    def bare() -> None:
        pass

    def busy() -> int:
        return sum(number * number for number in range(20_000))

    limited = memory_limit("1GB")(bare)
    calls = [nanoseconds(limited, 2000) - nanoseconds(bare, 2000) for _ in range(pairs)]
    ratios = []
    for _ in range(pairs):
        alone = nanoseconds(busy, 30)
        with memory_limit("1GB"):
            watched = nanoseconds(busy, 30)
        ratios.append(watched / alone)
    print(f"a limited call takes {statistics.median(calls) / 1000:.1f} us more than a bare one")
    print(f"a busy program takes {statistics.median(ratios):.3f} times as long under a limit")


def main() -> None:
    """Print both tables, or run one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.case is not None:
        print(peak_growth(options.case))
        return
    good = print_peaks(options.rounds)
    print_costs(options.rounds)
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
