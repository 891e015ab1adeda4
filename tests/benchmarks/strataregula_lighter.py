"""Prints what each optimizer of Strataregula gives, beside the same compile without any.

    python tests/benchmarks/strataregula_lighter.py PATH [--sizes 1000 10000 100000] [--rounds 3]

PATH is a checkout of Strataregula. Every compile is a process of its own, and measured as a whole;
bare ones, which do not import stratatrace, and others take turns, and a ratio is the median over
the rounds. Output is compared by its hash, with the clock and the seed of hashes standing still:
what is generated has both in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATE = ROOT / "examples" / "strataregula" / "generate.py"
BARE = "none"
# Most give what they give only where others are on, too.
LEFT_OUT = ("yaml", "hooks", "cache", "output")


def compile_once(path: str, folder: str, how: str, form: str, switches: str) -> None:
    """Compile in this process, and print what it took."""
    sys.path[:0] = [path, str(ROOT)]
    logging.disable()
    if switches != BARE:
        from stratatrace.instrumentation.strataregula import optimizers  # noqa: PLC0415
        from stratatrace.patching import PatchTable  # noqa: PLC0415

        optimizers.apply(optimizers.parse_names(switches), PatchTable())
    from strataregula.core import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
        config_compiler as core,
    )

    module: Any = core
    now = SimpleNamespace(isoformat=lambda: "2025-01-01T00:00:00+00:00")
    module.time = SimpleNamespace(time=lambda: 1000.0)
    module.datetime = SimpleNamespace(now=lambda _zone: now)
    inputs, output = Path(folder), Path(folder) / f"out-{os.getpid()}"
    (traffic,) = inputs.glob("traffic.*")
    compiler = module.ConfigCompiler(module.CompilationConfig(output_format=form))
    if how == "large":
        compiler.compile_large_config(traffic, output)
    else:
        compiler.compile_traffic_config(traffic, inputs / "prefectures.yaml", output)
    # From when the process was asked for: imports are in it, stratatrace's too.
    took, worked = time.monotonic() - float(os.environ["BEGAN"]), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(json.dumps({"wall": took, "cpu": worked, "rss": peak, "digest": digest}))
    output.unlink()


def run(path: str, folder: Path, how: str, form: str, switches: str) -> dict[str, Any]:
    """Compile in a process of its own, and return what it took."""
    ended = subprocess.run(
        [sys.executable, __file__, path, "--one", str(folder), how, form, switches],
        env={**os.environ, "PYTHONHASHSEED": "0", "BEGAN": str(time.monotonic())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took: dict[str, Any] = json.loads(ended.stdout)
    return took


def rows() -> list[str]:
    """Return the sets of switches that are measured."""
    sys.path.insert(0, str(ROOT))
    from stratatrace.instrumentation.strataregula.optimizers import OPTIMIZERS  # noqa: PLC0415

    others = [",".join(name for name in OPTIMIZERS if name != left) for left in LEFT_OUT]
    return ["", *OPTIMIZERS, *others, "all"]


def label(switches: str, every: list[str]) -> str:
    """Return what a row is called."""
    if not switches:
        return "stratatrace imported"
    names = switches.split(",")
    left = [name for name in every if "," not in name and name not in {*names, "", "all"}]
    return f"all but {left[0]}" if len(names) > 1 else switches


def table(options: argparse.Namespace, size: int, folder: Path) -> bool:
    """Print the rows of one size; return whether all outputs were the same."""
    every, same = rows(), True
    chosen = [each for each in every if options.only is None or each in options.only]
    print(f"\n{size:,} patterns, {options.how}, {options.format}, {options.rounds} rounds\n")
    print("| switches | seconds | peak RSS, MB | wall | CPU | peak RSS | bytes |")
    print("|---|---|---|---|---|---|---|")
    first: list[dict[str, Any]] = []
    for switches in chosen:
        bare, ours = [], []
        for _ in range(options.rounds):
            bare.append(run(options.path, folder, options.how, options.format, BARE))
            ours.append(run(options.path, folder, options.how, options.format, switches))
        if not first:
            first = bare
            print(
                f"| {BARE} | {median(each['wall'] for each in bare):.2f} "
                f"| {median(each['rss'] for each in bare) / 1e6:.0f} | 1 | 1 | 1 | |"
            )
        equal = len({each["digest"] for each in (*bare, *ours)}) == 1
        same = same and equal
        ratios = [
            median(one[key] / other[key] for one, other in zip(ours, bare, strict=True))
            for key in ("wall", "cpu", "rss")
        ]
        cells = [
            label(switches, every),
            f"{median(each['wall'] for each in ours):.2f}",
            f"{median(each['rss'] for each in ours) / 1e6:.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            "same" if equal else "DIFFERENT",
        ]
        print("|", " | ".join(cells), "|", flush=True)
    return same


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", help="a checkout of Strataregula")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--how", choices=["traffic", "large"], default="traffic")
    parser.add_argument("--format", choices=["python", "json", "yaml"], default="python")
    parser.add_argument("--input", choices=["yaml", "json"], default="yaml")
    parser.add_argument("--only", nargs="+", help="rows: names of optimizers, '' for none, all")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        compile_once(options.path, *options.one)
        return
    same = True
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, str(GENERATE), name, "--patterns", str(size)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if options.input == "json":
                traffic = folder / "traffic.yaml"
                lines = traffic.read_text(encoding="utf-8").splitlines()[1:]
                inner = ",".join(line.strip() for line in lines)
                (folder / "traffic.json").write_text(f'{{"service_times": {{{inner}}}}}')
                traffic.unlink()
            same = table(options, size, folder) and same
    if not same:
        print("the output is not the same", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
