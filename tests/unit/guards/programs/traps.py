"""The traps of limiting memory, each in a process of its own: ``python traps.py CASE [USER]``.

A case that holds prints nothing but ``held``. With a user, it gives up all privileges first.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pwd
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stratatrace import MemoryLimitExceeded, memory_limit

MB = 1_000_000
INFINITE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def limits() -> dict[str, tuple[int, int]]:
    """Return every limit of the process that has to do with memory."""
    return {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        for name in ("AS", "DATA", "STACK", "RSS")
    }


def ints_run_out() -> None:
    """An exception handler past instruction 256, unwound when there is no int to be had."""
    # Its place is an int object, and where that cannot be made the interpreter tries again, for
    # ever, and lets nobody else run.
    padding = "\n".join(f"    a{number} = {number}" for number in range(300))
    source = f"""
def fill(kept):
{padding}
    number = 10**6
    try:
        try:
            while True:
                kept.append(number)
                number += 1
        finally:
            len(kept)
    finally:
        len(kept)
"""
    namespace: dict[str, Any] = {}
    exec(compile(source, "fill", "exec"), namespace)
    for _ in range(3):
        kept: list[int] = []
        try:
            with memory_limit("60MB"):
                namespace["fill"](kept)
        except MemoryLimitExceeded:
            kept.clear()
        else:
            raise AssertionError
    assert limits()["DATA"] == INFINITE


def put_back() -> None:
    """What was set can be set back, without any privilege; the hard limits never move."""
    before = limits()
    for error in (None, ValueError, MemoryError):
        try:
            with memory_limit("60MB"):
                inside = limits()
                assert inside["DATA"][0] != before["DATA"][0]
                assert {k: v[1] for k, v in inside.items()} == {k: v[1] for k, v in before.items()}
                assert inside["AS"] == before["AS"]
                if error is not None:
                    raise error
        except (ValueError, MemoryError):
            pass
        assert limits() == before
    assert len(bytearray(500 * MB)) == 500 * MB


def hard_limit() -> None:
    """A budget that the hard limit leaves no room for is refused; one with room works."""
    resource.setrlimit(resource.RLIMIT_DATA, (800 * MB, 800 * MB))
    try:
        with memory_limit("2GB"):
            raise AssertionError
    except ValueError as error:
        assert "hard limit" in str(error), error
    with memory_limit("100MB"):
        pass
    assert limits()["DATA"] == (800 * MB, 800 * MB)


def hard_limit_lowered_inside() -> None:
    """Who lowers it within the block keeps it lowered."""
    with memory_limit("60MB"):
        resource.setrlimit(resource.RLIMIT_DATA, (limits()["DATA"][0], 900 * MB))
    assert limits()["DATA"] == (900 * MB, 900 * MB)


def nested() -> None:
    """Inner limits leave outer ones as they were."""
    before = limits()
    with memory_limit("300MB"):
        outer = limits()
        for _ in range(3):
            try:
                with memory_limit("60MB"):
                    bytearray(1000 * MB)
            except MemoryLimitExceeded:
                pass
            assert limits() == outer
    assert limits() == before


def result() -> None:
    """Nothing of ours hides what the block returns or raises."""

    @memory_limit("60MB")
    def load() -> int:
        return 7

    @memory_limit("60MB")
    def fail() -> None:
        raise KeyError("mine")

    assert load() == 7
    try:
        fail()
    except KeyError as error:
        assert error.args == ("mine",)


def outside() -> None:
    """A thread outside of the block takes memory while it is open."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                bytearray(b"x") * (70 * MB)
        except BaseException as error:
            failed.append(error)

    with memory_limit("100MB"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not failed, failed


def import_numpy() -> None:
    """Libraries reserve far more than they use, and end the process where they cannot."""
    with memory_limit("60MB") as limit:
        import numpy as np  # noqa: PLC0415 -- that is the case

        assert np.ones(10).sum() == 10
    assert not limit.exceeded


def deep_stack() -> None:
    """The stack grows at the limit: an error, and no signal."""
    sys.setrecursionlimit(60_000)

    def descend(kept: list[Any], levels: int) -> int:
        kept.append(bytearray(4000))
        return descend(kept, levels - 1) + 1 if levels else 0

    try:
        with memory_limit("60MB"):
            descend([], 50_000)
    except (MemoryLimitExceeded, RecursionError):
        pass
    assert limits()["DATA"] == INFINITE


def subprocess_inherits() -> None:
    """A program that is started in the block is not under its limit for long."""
    ask = (
        "import resource, sys, time\n"
        "for _ in range(400):\n"
        "    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]\n"
        "    if soft == resource.RLIM_INFINITY: break\n"
        "    time.sleep(0.01)\n"
        "print(soft)\n"
    )
    with memory_limit("60MB"):
        ran = subprocess.run(
            [sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=60
        )
    assert int(ran.stdout) == resource.RLIM_INFINITY, ran.stdout


def forked() -> None:
    """A forked child is under no limit of its parent's, which goes on under its own."""
    status = -1
    with memory_limit("60MB") as limit:
        inside = limits()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                assert limits()["DATA"] == INFINITE
                kept = bytearray(b"x") * (200 * MB)
                assert len(kept) == 200 * MB
                time.sleep(0.1)
                code = 0 if limit.closed and limit.released else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert limits() == inside
    assert status == 0, status


def forked_leaves() -> None:
    """A child leaves the blocks that it was forked in, and enters others."""
    pid = 0
    code = 0
    try:
        with memory_limit("60MB", name="outer"):
            pid = os.fork()
            if not pid:
                kept = bytearray(b"x") * (200 * MB)
                try:
                    with memory_limit("60MB", name="inner"):
                        bytearray(1000 * MB)
                except MemoryLimitExceeded as error:
                    assert error.callsite is not None
                    assert error.callsite.label == "inner"
                assert len(kept)
        assert limits()["DATA"] == INFINITE
    except BaseException:
        code = 1
    if not pid:
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert (status, code) == (0, 0)


def forked_by_another_thread() -> None:
    """While limits are opened and closed: no lock is held in the child for ever."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            with memory_limit("60MB"):
                pass

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(30):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                with memory_limit("60MB"):
                    pass
                code = 0 if limits()["DATA"] == INFINITE else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
    done.set()
    thread.join()


def ends_inside() -> None:
    """A program that ends within a block ends as it would."""
    block = memory_limit("60MB")
    block.__enter__()
    print("held", flush=True)
    sys.exit(0)


def threads_at_the_end() -> None:
    """Nothing is printed where a thread is within a block as the program ends."""

    def work() -> None:
        with memory_limit("60MB"):
            time.sleep(60)

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)


def refused_mapping() -> None:
    """What the system refuses by other names than MemoryError is told as well."""
    try:
        with memory_limit("60MB"):
            mmap.mmap(-1, 1000 * MB, flags=mmap.MAP_PRIVATE)
    except MemoryLimitExceeded as error:
        assert isinstance(error.__cause__, OSError)
    else:
        raise AssertionError


def address_space() -> None:
    """A stricter RLIMIT_AS is not ours, and what it refuses is not either."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 90 * MB, resource.RLIM_INFINITY))
    try:
        with memory_limit("200MB"):
            bytearray(150 * MB)
    except MemoryLimitExceeded as error:
        raise AssertionError from error
    except MemoryError:
        pass
    else:
        raise AssertionError


def no_thread_in_c() -> None:
    """A call into C that allocates in small steps and lets nobody run is refused in time."""
    try:
        with memory_limit("60MB") as limit:
            list(range(30_000_000))
    except MemoryLimitExceeded:
        pass
    # Not getrusage, whose number begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split(None, 1)[0]) * 1024
    assert peak < 250 * MB, peak
    assert limit.exceeded


def becomes_a_daemon() -> None:
    """All descriptors are closed, and the number of ours must not be that of the program's file."""
    with memory_limit("60MB"):
        pass
    os.closerange(3, 2000)
    read, write = os.pipe()
    time.sleep(1.5)  # The watchdog ends meanwhile, and lets go of what it has.
    os.write(write, b"mine")
    assert os.read(read, 4) == b"mine"
    try:
        with memory_limit("60MB"):
            bytearray(500 * MB)
    except MemoryLimitExceeded:
        pass
    else:
        raise AssertionError


CASES = {
    case.__name__: case
    for case in (
        ints_run_out,
        put_back,
        hard_limit,
        hard_limit_lowered_inside,
        nested,
        result,
        outside,
        import_numpy,
        deep_stack,
        subprocess_inherits,
        forked,
        forked_leaves,
        forked_by_another_thread,
        ends_inside,
        threads_at_the_end,
        refused_mapping,
        address_space,
        no_thread_in_c,
        becomes_a_daemon,
    )
}


def become(user: str) -> None:
    """Be a user without privileges from now on."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # Else /proc/self would go on being root's.
    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, 1 << 30))
    except (ValueError, OSError):
        return
    raise AssertionError


if __name__ == "__main__":
    if sys.argv[2:]:
        become(sys.argv[2])
    CASES[sys.argv[1]]()
    print("held", flush=True)
