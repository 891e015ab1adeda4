"""Run strataregula's own tests bare and under each probe, and compare them test for test.

``python tests/strataregula_suite/compare.py CHECKOUT``; fails where one of them ends otherwise, or
where nothing was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROBES = ("off", "native", "tracemalloc")


def run(checkout: Path, probe: str, folder: Path) -> dict[str, Any]:
    """Run the tests of a checkout, and return what the plugin has written."""
    home = folder / probe
    # A copy: some tests write beside themselves, and what one run leaves is another's input.
    shutil.copytree(checkout, home, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    told = folder / f"{probe}.json"
    path = os.pathsep.join((str(HERE), str(home)))
    # The chosen order of hashes decides nothing that we do, but something that they print.
    told_to = {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "HOME": str(folder)}
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "outcomes", "-p", "no:cacheprovider"),
            *("-p", "no:cov", "-p", "no:randomly", "-o", "addopts="),
        ],
        cwd=home,
        env={**os.environ, **told_to, "SUITE_PROBE": probe, "SUITE_OUTCOMES": str(told)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=600,
        check=False,  # Some of them fail by themselves.
    )
    return json.loads(told.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def main() -> int:
    """Print how the runs have ended; return the exit status."""
    checkout = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        told = {probe: run(checkout, probe, Path(folder)) for probe in PROBES}
    bare = told["off"]["outcomes"]
    different = 0
    for probe, one in told.items():
        ours = one["outcomes"]
        ended = Counter(
            phases.get("call", phases.get("setup", "collect")).split()[0]
            for phases in ours.values()
        )
        print(f"{probe}: {len(ours)} tests, {dict(ended)}, {sum(one['spans'].values())} spans")
        for test in sorted(bare.keys() | ours.keys()):
            if bare.get(test) != ours.get(test):
                different += 1
                print(f"  {test}: {bare.get(test)} bare, {ours.get(test)} under {probe}")
        if probe != "off" and not one["spans"]:
            different += 1
            print("  nothing was measured")
    return 1 if different or not bare else 0


if __name__ == "__main__":
    sys.exit(main())
