"""Sends every measured callable to a pool of processes and prints, as JSON, what came back.

Arguments: ``fork`` or ``spawn``.
"""

from __future__ import annotations

import json
import multiprocessing
import sys

from pooled import CASES  # type: ignore[import-not-found]  # beside this program


def main() -> None:
    """Map each case over two numbers in one worker process."""
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        results = {name: pool.map(call, [1, 2]) for name, (call, _) in CASES.items()}
        pool.close()
        pool.join()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
