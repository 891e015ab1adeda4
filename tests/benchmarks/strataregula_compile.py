"""What measuring strataregula costs a compile of 10,000 patterns, against the same compile bare.

``python tests/benchmarks/strataregula_compile.py CHECKOUT``. A number is the median of pairs of
fresh processes, whose compiles are run in turn on one core, after one to warm up. Of tracemalloc
two are measured: a compile that is traced, and one that is not; what one traced in a hundred makes
of them follows.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from workloads import print_table, run_round, spread, use_one_core

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 4
#: How stratatrace is configured: the probe, the share of traced compiles, and the peak of RSS.
WAYS: dict[str, tuple[str, float, str] | None] = {
    "bare": None,
    "spans, and no memory": ("rss", 1.0, "off"),
    "native": ("native", 1.0, "auto"),
    "tracemalloc, not traced": ("tracemalloc", 1e-6, "auto"),
    "tracemalloc, traced": ("tracemalloc", 1.0, "auto"),
}
RATIO = 0.01


def patterns(count: int) -> Iterator[str]:
    """Yield lines of YAML: most patterns are literal, the others have a wildcard."""
    rng = random.Random(7)
    yield "service_times:\n"
    for number in range(count):
        kind = rng.choices(("edge.tokyo.", "edge.*.", "service-hub.*."), (60, 9, 31))[0]
        yield f"  {kind}service{number}: {number % 97 / 10 + 0.1}\n"


def compile_again_and_again(checkout: str, way: str, source: Path) -> None:
    """Compile once for each line of input, and print the processor time in ns."""
    sys.path.insert(0, checkout)
    logging.disable(logging.CRITICAL)
    if (told := WAYS[way]) is not None:
        # Where it is bare nothing of stratatrace's is imported.
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        import stratatrace  # noqa: PLC0415
        from stratatrace.instrumentation.strataregula.patches import patches  # noqa: PLC0415

        probe, ratio, rss_peak = told
        stratatrace.configure(
            probe=probe,
            sample_ratio=ratio,
            rss_peak=rss_peak,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        )
        patches.apply()
    # It has no types, and is not installed where types are checked.
    from strataregula.core import config_compiler  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    def compiled() -> int:
        start_ns = time.process_time_ns()
        compiler = config_compiler.ConfigCompiler()
        compiler.compile_traffic_config(source, None, source.with_suffix(".py"))
        return time.process_time_ns() - start_ns

    compiled()
    # Collections must not walk what we have imported: that is no cost of what is measured.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for _line in sys.stdin:
        print(compiled(), flush=True)


@contextlib.contextmanager
def waiting(checkout: str, way: str, source: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has compiled once, and waits."""
    command = [sys.executable, __file__, checkout, "--way", way, "--source", str(source)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        command,
        cwd=source.parent,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            sys.exit(f"strataregula of {checkout} did not compile")
        yield process
        process.stdin.close()


def pair_ratio(checkout: str, way: str, source: Path, number: int) -> float:
    """Return the median ratio of a pair's compiles."""
    other = source.with_name(f"other{number}.yaml")
    other.write_bytes(source.read_bytes())
    with waiting(checkout, "bare", source) as bare, waiting(checkout, way, other) as watched:
        ratios = []
        for turn in range(ROUNDS):
            # In turn, and who was second is first in the next.
            first, second = (watched, bare) if turn % 2 else (bare, watched)
            times = {first: run_round(first), second: run_round(second)}
            ratios.append(times[watched] / times[bare])
    return statistics.median(ratios)


def main() -> None:
    """Print a row for each way to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", help="of strataregula")
    parser.add_argument("--patterns", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    checkout = str(Path(options.checkout).resolve())
    if options.way:
        compile_again_and_again(checkout, options.way, options.source)
        return
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "traffic.yaml")
        source.write_text("".join(patterns(options.patterns)), encoding="utf-8")
        for number in range(options.pairs):
            use_one_core(number)
            for way in WAYS:
                ratios[way].append(pair_ratio(checkout, way, source, number))
    rows = {way: [spread(values)] for way, values in ratios.items()}
    traced, not_traced = (
        statistics.median(ratios[f"tracemalloc, {which}"]) for which in ("traced", "not traced")
    )
    sampled = RATIO * traced + (1 - RATIO) * not_traced
    rows[f"tracemalloc, {RATIO:.0%} traced"] = [f"{sampled:.2f}"]
    print(f"A compile of {options.patterns:,} patterns against bare: {options.pairs} pairs\n")
    print_table(["processor time"], rows)


if __name__ == "__main__":
    main()
