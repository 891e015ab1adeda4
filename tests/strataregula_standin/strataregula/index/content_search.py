"""Searches what is in files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def search_content(
    pattern: str, files: list[Path], provider: object | None = None, verbose: bool = False
) -> list[str]:
    del provider, verbose
    return [
        f"{path}:{number}:{line}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
