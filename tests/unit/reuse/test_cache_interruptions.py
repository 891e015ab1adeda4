"""Exceptions that are thrown into threads, as a memory limit does, leave caches whole."""

from __future__ import annotations

import subprocess
import sys

from tracing import untraced

PROGRAM = """
import ctypes, random, threading, time
from stratatrace import BoundedCache, WeakCache
from stratatrace.reuse import cache_flights

class Thrown(Exception): pass
class Value: pass

throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
cache = BoundedCache(
    max_entries=20, max_bytes=2000, size_of=len, ttl=60, shrink_under_pressure=False)
weak = WeakCache()
ended = threading.Event()

def use(made):
    key = made.randrange(30)
    kind = made.randrange(6)
    if kind == 0:
        cache[key] = bytes(made.randrange(300))
    elif kind == 1:
        cache.pop(key, None)
    elif kind == 2:
        list(cache.items())
    elif kind == 3:
        cache.get_or_create(-key - 1, lambda: b"made")
    elif kind == 4:
        cache.setdefault(key, b"default")
    else:
        value = weak.get(key, Value)
        assert weak.get(key, Value) is value

def work(seed):
    made = random.Random(seed)
    while not ended.is_set():
        try:
            while not ended.is_set():
                use(made)
        except Thrown:
            pass

threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(3)]
for thread in threads:
    thread.start()
for number in range(1500):
    time.sleep(0.0005)
    throw(ctypes.c_ulong(threads[number % 3].ident), ctypes.py_object(Thrown))
time.sleep(0.2)
ended.set()
for thread in threads:
    thread.join(20)
    # It may have died of one that landed in its own loop, and not of anything else.
    assert not thread.is_alive(), "a thread hangs"
assert cache._lock.acquire(timeout=1) and weak._lock.acquire(timeout=1), "a lock was left taken"
assert not cache._changing and not cache._deferred
left = (cache._flights._of_keys, weak._flights._of_keys, cache_flights._waits._of)
assert not any(left), left
assert not cache_flights._under_way
assert cache.stats().size_bytes == sum(map(len, cache.values()))
cache.update({number: b"x" for number in range(100)})
assert len(cache) == len(list(cache)) == 20
print("whole", cache.stats().evictions.get("interrupted", 0) > 0)
"""


@untraced
def test_they_leave_no_lock_taken_and_nothing_half_done() -> None:
    """Some of them land in the midst of a change, which then empties the cache."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=90, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "whole True\n"), ran.stderr
