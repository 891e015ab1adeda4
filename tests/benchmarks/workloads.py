"""What tools that watch the heap cost whole programs, each against the same program without one.

A number is the median of pairs. A pair is two fresh processes, one of which has the tool; their
rounds are run in turn, on one core, and compared one by one, so that a machine that is slow for a
while is slow for both. What is compared is the processor time of all threads of the process, after
a round to warm up. *bare*, against another bare process, is what all this leaves of noise.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from five_programs import PROGRAMS
from one_program import TOOLS

from stratatrace.probes.native import native_obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
ROUNDS = 6
OURS = ("native", "sampling")
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
# Hash seeds and threads of numpy's libraries would only add noise.
STEADY = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class RunError(Exception):
    """A program did not run under a tool; the text is the last line that it left."""


def obstacle(tool: str) -> str | None:
    """Return why a tool cannot be had here, or None."""
    if tool in OURS:
        return native_obstacle()
    if tool != "bare" and importlib.util.find_spec(tool) is None:
        return "not installed"
    return None


def command(tool: str, program: str, scale: float, folder: str) -> list[str]:
    """Return what runs a program under a tool."""
    run = [str(HERE / "one_program.py"), tool, program, str(scale)]
    if tool == "memray":
        run[:0] = ["-m", "memray", "run", "-q", "-f", "-o", f"{folder}/memray.bin"]
    return [sys.executable, *run]


@contextlib.contextmanager
def waiting(tool: str, program: str, scale: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has warmed up and waits for rounds."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "errors").open("w+") as errors:
        process = subprocess.Popen(
            command(tool, program, scale, folder),
            env=os.environ | STEADY | {"TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                answer(process)
                yield process
            except (OSError, ValueError) as error:
                process.kill()
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["it ended without a word"]
                raise RunError(lines[-1]) from error
            assert process.stdin is not None
            process.stdin.close()  # The end of its rounds.


def answer(process: subprocess.Popen[str]) -> int:
    """Return a number that a process prints; 0 when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    return 0 if line == "ready" else int(line)


def run_round(process: subprocess.Popen[str]) -> int:
    """Return the processor time of a round, in ns."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return answer(process)


def use_one_core(number: int) -> None:
    """Run what is started from now on on one core: two may differ in speed at any moment."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {CORES[number % len(CORES)]})


def pair_ratio(tool: str, program: str, scale: float) -> tuple[float, float]:
    """Return the median ratio of a pair's rounds, and the bare process's median time in seconds."""
    ratios, bare_times = [], []
    with waiting("bare", program, scale) as bare, waiting(tool, program, scale) as watched:
        for number in range(ROUNDS):
            # In turn, and who was second is first in the next.
            if number % 2:
                tool_ns, bare_ns = run_round(watched), run_round(bare)
            else:
                bare_ns, tool_ns = run_round(bare), run_round(watched)
            ratios.append(tool_ns / bare_ns)
            bare_times.append(bare_ns / 1e9)
    return statistics.median(ratios), statistics.median(bare_times)


def instructions(tool: str, program: str, scale: float) -> int:
    """Return the instructions of two rounds, as callgrind counts them.

    Raises:
        RunError: The program did not run to its end.
    """
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        # What a process does before its rounds is in both, and falls out of the difference.
        for rounds in (1, 3):
            done = subprocess.run(
                [*callgrind, *command(tool, program, scale, folder)],
                env=os.environ | STEADY,
                input="\n" * rounds,
                capture_output=True,
                text=True,
                check=False,
            )
            collected = re.search(r"Collected : (\d+)", done.stderr)
            if done.returncode or collected is None:
                raise RunError(
                    (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
                )
            totals.append(int(collected[1]))
    return totals[1] - totals[0]


def spread(ratios: Sequence[float]) -> str:
    """Return a median with its quartiles."""
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}" if ratios else "-"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def print_table(columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    """Print Markdown, a row for each tool."""
    print("|".join(["", " tool ", *(f" {column} " for column in columns), ""]))
    print("|---" * (len(columns) + 1) + "|")
    for tool, cells in rows.items():
        print("|".join(["", f" {tool} ", *(f" {cell} " for cell in cells), ""]), flush=True)


def print_times(tools: Sequence[str], programs: Sequence[str], pairs: int, scale: float) -> None:
    """Print the ratios of processor times."""
    ratios: dict[tuple[str, str], list[float]] = {(t, p): [] for t in tools for p in programs}
    bare: dict[str, list[float]] = {program: [] for program in programs}
    failed: dict[tuple[str, str], str] = {}
    # All once, and all again: what changes slowly hits them alike, too.
    for number in range(pairs):
        use_one_core(number)
        for program in programs:
            for tool in tools:
                if (tool, program) in failed:
                    continue
                try:
                    ratio, seconds = pair_ratio(tool, program, scale)
                except RunError as error:
                    failed[tool, program] = str(error)
                else:
                    ratios[tool, program].append(ratio)
                    bare[program].append(seconds)
    print(f"Processor time against bare: medians of {pairs} pairs (quartiles)\n")
    rows = {tool: [spread(ratios[tool, program]) for program in programs] for tool in tools}
    rows["*a bare round*"] = [f"{statistics.median(bare[p] or [0]):.3f} s" for p in programs]
    print_table(programs, rows)
    for (tool, program), why in failed.items():
        print(f"{tool} did not run {program}: {why}")


def print_instructions(tools: Sequence[str], programs: Sequence[str], scale: float) -> None:
    """Print the ratios of instructions, which do not depend on how busy the machine is."""
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is not installed")
        return
    scale *= 0.3  # Callgrind is fifty times slower than the processor.
    rows: dict[str, list[str]] = {tool: [] for tool in tools}
    for program in programs:
        for tool in tools:
            try:
                bare = instructions("bare", program, scale)
                rows[tool].append(f"{instructions(tool, program, scale) / bare:.3f}")
            except RunError as error:
                rows[tool].append(f"- ({error})")
    print("Instructions against bare (callgrind)\n")
    print_table(programs, rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=4, help="of each program and tool (%(default)s)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of a round's work (%(default)s)")
    parser.add_argument("--tools", default=",".join(TOOLS), help="some of %(default)s")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="some of %(default)s")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions of the native counters instead, with callgrind",
    )
    options = parser.parse_args()
    programs = options.programs.split(",")
    print(f"\nCPython {sys.version.split()[0]}")
    tools = []
    for tool in options.tools.split(","):
        why = obstacle(tool)
        if why is None:
            tools.append(tool)
        else:
            print(f"left out: {tool}, {why}")
    if options.instructions:
        print_instructions([t for t in tools if t in OURS], programs, options.scale)
        return
    print_times(tools, programs, options.pairs, options.scale)
    print(flush=True)
    subprocess.run([sys.executable, str(HERE / "map_share.py")], check=True)


if __name__ == "__main__":
    main()
