# ruff: noqa: INP001 -- a script beside the pages, not a package
"""Draws the stages of a program before and after, as bars, from two files of spans.

    python docs/draw_stages.py before.jsonl after.jsonl docs/strataregula_lighter.svg

The files are those that stratatrace writes. A bar is the heap's peak in the calls of a name; those
below a megabyte in both files are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PEAK = "stratatrace.heap.peak"
LEAST_BYTES = 1_000_000
ROW, BAR, LEFT, WIDE, RIGHT = 44, 14, 370, 380, 90
STYLE = 'font-family="sans-serif" font-size="13" fill="#1f2937" role="img"'
COLOURS = {"before": "#c2410c", "after": "#0f766e"}


def peaks(path: Path) -> dict[str, int]:
    """Return the highest peak in bytes of each name, in the order in which calls began."""
    spans = [
        span
        for line in path.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    found: dict[str, int] = {}
    for span in sorted(spans, key=lambda span: int(span["startTimeUnixNano"])):
        values = {each["key"]: each["value"] for each in span["attributes"]}
        if PEAK in values:
            peak = int(values[PEAK]["intValue"])
            found[span["name"]] = max(peak, found.get(span["name"], 0))
    return found


def drawing(before: dict[str, int], after: dict[str, int]) -> str:
    """Return the picture."""
    names = [name for name in before if max(before[name], after.get(name, 0)) >= LEAST_BYTES]
    scale = WIDE / max(*before.values(), *after.values())
    width, height = LEFT + WIDE + RIGHT, ROW * len(names) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {STYLE}>',
        "<title>Heap peak of each stage, before and after</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, (which, colour) in enumerate(COLOURS.items()):
        x = LEFT + 90 * place
        lines += [
            f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>',
            f'<text x="{x + 18}" y="23">{which}</text>',
        ]
    for row, name in enumerate(names):
        top = 36 + ROW * row
        lines.append(f'<text x="{LEFT - 10}" y="{top + BAR + 5}" text-anchor="end">{name}</text>')
        for place, (which, of) in enumerate({"before": before, "after": after}.items()):
            peak, colour = of.get(name, 0), f'fill="{COLOURS[which]}"'
            long, y = peak * scale, top + place * (BAR + 2)
            lines += [
                f'<rect x="{LEFT}" y="{y}" width="{max(1.0, long):.1f}" height="{BAR}" {colour}/>',
                f'<text x="{LEFT + long + 6:.1f}" y="{y + 11}">{peak / 1e6:.1f} MB</text>',
            ]
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    """Read both files, and write the picture."""
    before, after, picture = map(Path, sys.argv[1:])
    picture.write_text(drawing(peaks(before), peaks(after)), encoding="utf-8")


if __name__ == "__main__":
    main()
