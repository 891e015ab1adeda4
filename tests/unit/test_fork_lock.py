"""A forked child's threads do not wait for what the fork holds, whatever runs there first."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from stratatrace.fork_lock import ForkLock


def test_it_is_a_reentrant_lock() -> None:
    """Other threads wait, also while its holder forks; afterwards they go on."""
    lock, reached = ForkLock(), threading.Event()

    def enter() -> None:
        with lock.here:
            reached.set()

    thread = threading.Thread(target=enter)
    with lock.here, lock.here:
        thread.start()
        assert not reached.wait(0.05)
        lock.before_fork()
        lock.after_fork_in_parent()
        assert not reached.wait(0.05)
    assert reached.wait(30)
    thread.join(30)


@pytest.mark.parametrize("probe", ["tracemalloc", "auto"])
def test_handlers_of_others_may_wait_for_threads_that_are_measured(probe: str) -> None:
    """As the SDK's do in a forked child, before ours; the collector may run in them too."""
    program = f"""
        import gc, os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)

        def in_child():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(20)
            seen.append(thread.is_alive())

        os.register_at_fork(after_in_child=in_child)  # Before ours is.
        from stratatrace import configure, profile_memory
        configure(probe="{probe}", output="/dev/null", sample_ratio=1)
        seen = []

        @profile_memory
        def work():
            gc.collect()

        @profile_memory
        def fork():
            child = os.fork()
            if not child:
                os._exit(int(seen != [False]))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        work()
        print(fork())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
