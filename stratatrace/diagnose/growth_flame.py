"""What grew, as a flame graph: one page of HTML that needs neither a network nor another file."""

from __future__ import annotations

import zlib
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.diagnose.growth_texts import UNKNOWN, frame_text
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stratatrace.stacks import Frame, StackGrowth

__all__ = ["flame_graph"]

# What is narrower can be neither seen nor pointed at.
_LEAST_SHARE = 1 / 2000
_ROW_PIXELS = 18


class _Node:
    """A frame, below those that called it."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.callees: dict[Frame | str, _Node] = {}


class _Box(NamedTuple):
    """A frame as it is drawn; shares are of the whole width."""

    frame: Frame | str
    size_bytes: int
    row: int
    left: float
    width: float


def flame_graph(stacks: Iterable[StackGrowth], *, title: str, text: str) -> str:
    """Return the page.

    Args:
        stacks: Those that grew.
        title: Of the page.
        text: What is written below the picture.
    """
    root = _tree(stacks)
    boxes = list(_boxes("all", root, 0, 0.0, root.size_bytes)) if root.size_bytes else []
    rows = max((box.row for box in boxes), default=0) + 1
    drawn = "\n".join(_drawn(box, root.size_bytes) for box in boxes)
    return _PAGE.format(
        title=escape(title), height=rows * _ROW_PIXELS, boxes=drawn, text=escape(text)
    )


def _tree(stacks: Iterable[StackGrowth]) -> _Node:
    root = _Node()
    for stack in stacks:
        size_bytes = round(stack.bytes)
        node = root
        node.size_bytes += size_bytes
        for frame in tuple(reversed(stack.frames)) or (UNKNOWN,):
            node = node.callees.setdefault(frame, _Node())
            node.size_bytes += size_bytes
    return root


def _boxes(
    frame: Frame | str, node: _Node, row: int, left: float, whole_bytes: int
) -> Iterator[_Box]:
    width = node.size_bytes / whole_bytes
    if width < _LEAST_SHARE:
        return
    yield _Box(frame, node.size_bytes, row, left, width)
    widest_first = sorted(node.callees.items(), key=lambda callee: -callee[1].size_bytes)
    for callee, below in widest_first:
        yield from _boxes(callee, below, row + 1, left, whole_bytes)
        left += below.size_bytes / whole_bytes


def _drawn(box: _Box, whole_bytes: int) -> str:
    frame = box.frame
    if isinstance(frame, str):
        label, hue = frame, 0
        told = frame
    else:
        # By the folder, so that packages can be told apart.
        hue = zlib.crc32(str(PurePath(frame.file).parent).encode(errors="replace")) % 360
        label = f"{frame.function or '?'} ({PurePath(frame.file).name}:{frame.line})"
        told = frame_text(frame)
    share = f"{box.size_bytes / whole_bytes:.1%}"
    hover = escape(f"{told}\n{format_size(box.size_bytes)}, {share}")
    style = (
        f"top:{box.row * _ROW_PIXELS}px;left:{box.left:.4%};width:{box.width:.4%};"
        f"background:hsl({hue} 65% 75%)"
    )
    place = f'data-left="{box.left:.6f}" data-width="{box.width:.6f}"'
    return f'<div class="box" style="{style}" {place} title="{hover}">{escape(label)}</div>'


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 13px system-ui, sans-serif; margin: 1em; color: #222; background: #fff }}
#graph {{ position: relative; height: {height}px; overflow: hidden }}
.box {{ position: absolute; height: 17px; line-height: 17px; box-sizing: border-box;
  padding: 0 3px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  font-size: 11px; border-right: 1px solid #fff; cursor: pointer }}
.box:hover {{ filter: brightness(0.9) }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Each box is a line of code, and stands below the one that called it; its width is the memory by
which it, and what it called, grew. Click a box to see it at full width, and the first to go back.
</p>
<div id="graph">
{boxes}
</div>
<pre>{text}</pre>
<script>
const graph = document.getElementById("graph");
graph.addEventListener("click", (event) => {{
  const chosen = event.target.closest(".box");
  if (!chosen) return;
  const left = Number(chosen.dataset.left), width = Number(chosen.dataset.width);
  for (const box of graph.children) {{
    const from = Math.max((Number(box.dataset.left) - left) / width, 0);
    const to = Math.min(
      (Number(box.dataset.left) + Number(box.dataset.width) - left) / width, 1);
    box.style.left = `${{from * 100}}%`;
    box.style.width = `${{Math.max(to - from, 0) * 100}}%`;
    box.style.display = to - from > 0.0001 ? "" : "none";
  }}
}});
</script>
</body>
</html>
"""
