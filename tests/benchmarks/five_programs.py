"""Five programs: small records, JSON, large arrays, floats, and short calls.

Each is made by a function that prepares what is not to be timed, and returns one *round*: a
function that does the same work however often it is called.
"""

from __future__ import annotations

import json
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Round = Callable[[], object]

__all__ = ["PROGRAMS", "document", "record"]

MASSES = (39.47, 0.0377, 0.0113, 0.0017, 0.002)


def record(number: int) -> dict[str, Any]:
    """Return a small record: about nine objects."""
    return {
        "id": number,
        "name": f"user-{number}",
        "tags": [f"a{number % 97}", f"b{number % 89}"],
        "position": (number * 0.5, number * 0.25, number),
        "meta": {"kind": number % 7, "text": str(number) * 2},
    }


def document(items: int) -> str:
    """Return JSON of about 330 bytes an item."""
    rng = random.Random(7)
    return json.dumps(
        [
            {
                "id": number,
                "guid": f"{rng.getrandbits(128):032x}",
                "active": bool(number & 1),
                "balance": rng.random() * 1e5,
                "name": {"first": f"first{number % 991}", "last": f"last{number % 1009}"},
                "tags": [f"t{rng.randrange(1000)}" for _ in range(6)],
                "place": [rng.random() * 180, rng.random() * 90],
                "note": "lorem ipsum dolor sit amet " * 3,
            }
            for number in range(items)
        ]
    )


def churn(scale: float) -> Round:
    """Make small records and drop them, of which the last 5,000 are alive."""
    count = int(40_000 * scale)
    window: deque[dict[str, Any]] = deque(maxlen=5_000)

    def one_round() -> int:
        total = 0
        for number in range(count):
            item = record(number)
            window.append(item)
            total += len(item["name"]) + len(item["tags"])
        return total

    return one_round


def json_documents(scale: float) -> Round:
    """Read and write a document of 4 MB."""
    text = document(int(12_000 * scale))
    return lambda: len(json.dumps(json.loads(text)))


def arrays(scale: float) -> Round:
    """Make numpy arrays of 1 to 50 MB, calculate with them, and keep three."""
    import numpy as np  # noqa: PLC0415 -- the other programs do without

    rng = random.Random(3)
    lengths = [int(rng.uniform(1, 50) * 1e6 / 8) for _ in range(max(2, int(6 * scale)))]
    kept: deque[Any] = deque(maxlen=3)

    def one_round() -> float:
        total = 0.0
        for length in lengths:
            ones = np.ones(length)
            sums = ones * 1.5
            sums += ones
            kept.append(np.sqrt(sums))
            total += float(kept[-1][:1000].sum())
        return total

    return one_round


def n_body(scale: float) -> Round:
    """Move five bodies: nothing but floats, which mostly come from the free list."""
    steps = int(8_000 * scale)
    # Place and speed in three dimensions, and mass.
    bodies = [
        [7.0 * i, 4.0 * math.sin(i), 0.3 * i, 0.1 * i, 2.0 * math.cos(i), 0.0, mass]
        for i, mass in enumerate(MASSES)
    ]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1 :]]

    def one_round() -> None:
        for _ in range(steps):
            for a, b in pairs:
                dx = a[0] - b[0]
                dy = a[1] - b[1]
                dz = a[2] - b[2]
                squared = dx * dx + dy * dy + dz * dz
                pull = 0.01 / (squared * squared**0.5)
                on_a = b[6] * pull
                on_b = a[6] * pull
                a[3] -= dx * on_a
                a[4] -= dy * on_a
                a[5] -= dz * on_a
                b[3] += dx * on_b
                b[4] += dy * on_b
                b[5] += dz * on_b
            for body in bodies:
                body[0] += 0.01 * body[3]
                body[1] += 0.01 * body[4]
                body[2] += 0.01 * body[5]

    return one_round


def tiny(number: int) -> list[int]:
    """Return a list: the whole body of a short call."""
    return [number, number + 1, number + 2, number + 3]


def short_calls(scale: float) -> Round:
    """Call a function that does next to nothing."""
    calls = int(300_000 * scale)

    def one_round() -> int:
        total = 0
        for number in range(calls):
            total += len(tiny(number))
        return total

    return one_round


#: By the names in the tables. A round takes a twentieth of a second or so at a scale of 1.
PROGRAMS: dict[str, Callable[[float], Round]] = {
    "w1 churn": churn,
    "w2 json": json_documents,
    "w3 numpy": arrays,
    "w4 n-body": n_body,
    "w5 short calls": short_calls,
}
