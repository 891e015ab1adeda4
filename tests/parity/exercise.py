"""Drives every function of the native counters once: small enough to run under valgrind."""

from __future__ import annotations

import threading
import tracemalloc
import zlib

from programs import PROGRAMS  # type: ignore[import-not-found]  # beside this script

from stratatrace.probes import _counters


def exercise() -> None:
    """Run the programs in every state that the hooks can be in."""
    for theirs in (False, True):
        _counters.start()
        _counters.count_numpy()
        if theirs:
            tracemalloc.start()
        threads = [threading.Thread(target=zlib.compress, args=(bytes(100_000),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for program in PROGRAMS.values():
            program()
            _counters.mark()
        for thread in threads:
            thread.join()
        _counters.counts()
        _counters.held_bytes()
        _counters.free_list_bytes()
        _counters.forget_numpy()
        _counters.stop()
        PROGRAMS["json_loads"]()
        tracemalloc.stop()


exercise()
