"""Caches in a forked child: usable, whatever the parent's threads were at."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = """
import os, sys, threading
from stratatrace import BoundedCache, WeakCache, cached

class Value: pass

class Slow(str):
    "Waits while it is compared, which is in the midst of a change, and under the lock."
    def __hash__(self): return 1
    def __eq__(self, other):
        if threading.current_thread() is not threading.main_thread():
            inside.set(); go.wait(20)
        return str(self) == str(other)

inside, go, computing = threading.Event(), threading.Event(), threading.Event()
bounded = BoundedCache(max_entries=5)
other = BoundedCache(max_entries=5)
weak = WeakCache()
kept = weak.get("kept", Value)
bounded.update({Slow("a"): 1, "b": 2})
other["b"] = 2

def slow():
    computing.set(); go.wait(20)
    return Value()

function = cached(max_entries=5)(slow)
threads = [threading.Thread(target=each, daemon=True) for each in (
    lambda: bounded.update({Slow("a"): 5}), function, lambda: weak.get("made", slow))]
for thread in threads:
    thread.start()
inside.wait(20)
computing.wait(20)
while not (weak._flights._of_keys and function.cache._flights._of_keys):
    pass
hits = other.get("b")
child = os.fork()
if not child:
    go.set()
    # What a thread of the parent was changing is empty, the rest is what it was.
    assert dict(bounded) == {}, dict(bounded)
    assert dict(other.items()) == {"b": 2}
    assert other.stats().hits == 0, other.stats()
    assert other["b"] == 2 and other.stats().hits == 1
    assert weak["kept"] is kept
    # Nobody computes here what a thread of the parent is at.
    assert isinstance(function(), Value)
    assert isinstance(weak.get("made", Value), Value)
    bounded.update({n: n for n in range(9)})
    assert len(bounded) == 5
    assert any(t.name == "stratatrace-pressure" for t in threading.enumerate())
    sys.stdout.write("child "); sys.stdout.flush()
    os._exit(0)
_, status = os.waitpid(child, 0)
go.set()
for thread in threads:
    thread.join(20)
assert os.waitstatus_to_exitcode(status) == 0, status
assert dict(bounded)[Slow("a")] == 5 and bounded["b"] == 2
assert other.stats().hits == 1
assert function.cache_info().misses == 1
print("parent")
"""


def test_a_forked_child_can_use_them() -> None:
    """New locks, no change half done, and no computation that nobody ends; nothing is printed."""
    ran = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"),
            *("-c", textwrap.dedent(PROGRAM)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "child parent\n", "")
