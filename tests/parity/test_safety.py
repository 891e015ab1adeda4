"""The compiled part where all goes wrong: no crash, nothing left open, sums that are right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .counting import run_python

PROGRAMS = Path(__file__).parent / "safety"
WAYS = ["tallied", "full"]
# The kernel keeps the high-water mark of a process when it runs another program: a child of a
# shell has one of its own, and not that of the test run.
OF_ITS_OWN = ["sh", "-c", '"$@"; exit $?', "sh"]


def run_program(name: str, *args: str) -> None:
    """Run one of the programs, which says when it has ended well, and nothing else."""
    done = subprocess.run(
        [*OF_ITS_OWN, sys.executable, "-X", "faulthandler", str(PROGRAMS / f"{name}.py"), *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", ""), done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_at_the_limit_of_recursion(way: str) -> None:
    """A call ends as it would without us, and the next one is measured again."""
    run_program("recursion", way)


@pytest.mark.parametrize("way", WAYS)
def test_without_memory(way: str) -> None:
    """Whichever allocation fails, the program has its result or its own error."""
    pytest.importorskip("_testcapi")
    run_program("no_memory", way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", ["thread", "signal"])
def test_interrupted_at_any_moment(way: str, by: str) -> None:
    """Nothing is charged or held afterwards; where calls are only added up, none is in flight."""
    run_program("interrupts", way, by)


@pytest.mark.parametrize("way", WAYS)
def test_among_other_machinery(way: str) -> None:
    """Whatever the standard library does with functions, it can do with measured ones."""
    run_program("lives", way)


@pytest.mark.parametrize("what", ["same", "changing"])
def test_hundreds_of_threads(what: str) -> None:
    """They come and go, fork, and find counting stopped; the sums of one recorder are right."""
    run_program("stress", what)


def test_many_calls_leave_nothing() -> None:
    """Of any kind, and however they end."""
    run_program("leaks", "300000", "100000")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("launcher", [[], OF_ITS_OWN], ids=["heir", "own"])
def test_the_interpreter_ends_with_calls_in_flight(way: str, launcher: list[str]) -> None:
    """In daemon threads, in generators, and in what runs at exit."""
    heavy = bytes(range(256)) * (1 << 19)  # What makes the heir's resident memory be read by text.
    assert heavy
    code = (
        f"import sys; sys.path.insert(0, {str(PROGRAMS)!r})\n"
        "import atexit, threading, time\n"
        "from setting import install\n"
        "from stratatrace import profile_memory\n"
        f"install({way!r})\n"
        "@profile_memory\n"
        "def inner(): return [bytearray(n) for n in range(50)]\n"
        "@profile_memory\n"
        "def sleeps():\n"
        "    time.sleep(1000)\n"
        "@profile_memory\n"
        "def items():\n"
        "    yield inner()\n"
        "    yield inner()\n"
        "def churn():\n"
        "    while True: inner(); list(items())\n"
        "for target in [sleeps] * 3 + [churn] * 3:\n"
        "    threading.Thread(target=target, daemon=True).start()\n"
        "started = items()\n"
        "next(started)\n"
        "sys.started = items()\n"
        "next(sys.started)\n"
        "atexit.register(inner)\n"
        "class Late:\n"
        "    def __del__(self, inner=inner): inner()\n"
        "late = Late()\n"
        "late.itself = late\n"
        "sys.late = Late()\n"
        "time.sleep(0.05)\n"
    )
    for _ in range(3):
        done = subprocess.run(
            [*launcher, sys.executable, "-P", "-X", "faulthandler", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_measured_function_in_another_interpreter() -> None:
    """There its module is pure Python, and measures by itself."""
    code = (
        "import sys\n"
        "if sys.version_info >= (3, 13):\n"
        "    import _interpreters as interpreters\n"
        "    interpreter = interpreters.create('legacy')\n"
        "else:\n"
        "    import _xxsubinterpreters as interpreters\n"
        "    interpreter = interpreters.create(isolated=False)\n"
        "from stratatrace import profile_memory\n"
        "measured = profile_memory(lambda: 1)\n"
        "measured()\n"
        "program = '''if True:\n"
        "    import sys\n"
        "    sys.path[:] = PATH\n"
        "    from stratatrace import profile_memory\n"
        "    assert profile_memory(lambda: 2)() == 2\n"
        "    def items():\n"
        "        yield 3\n"
        "    assert list(profile_memory(items)()) == [3]\n"
        "'''.replace('PATH', repr(sys.path))\n"
        "failure = interpreters.run_string(interpreter, program)\n"
        "assert failure is None, failure\n"
        "interpreters.destroy(interpreter)\n"
        "assert measured() == 1\n"
        "print('done')\n"
    )
    assert run_python(code, "-W", "ignore") == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no high-water mark to reset")
def test_a_program_that_closes_all_descriptors() -> None:
    """As daemons do; the files that it opens next are its own, and nothing is written into them."""
    code = (
        f"import sys; sys.path.insert(0, {str(PROGRAMS)!r})\n"
        "import os, tempfile\n"
        "from setting import install\n"
        "from stratatrace import profile_memory\n"
        "install('tallied')\n"
        "measured = profile_memory(lambda: 1)\n"
        "measured()\n"
        "os.closerange(3, 2_000)\n"
        "files = [tempfile.TemporaryFile() for _ in range(30)]\n"
        "assert [measured() for _ in range(10)] == [1] * 10\n"
        "assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 30\n"
        "sys.stdout.write('done')\n"
    )
    done = subprocess.run(
        [*OF_ITS_OWN, sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done"), done.stderr
