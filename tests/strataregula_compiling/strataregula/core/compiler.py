"""The cache that all share, and rules for patterns."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class PatternCache:
    def __init__(self, max_size: int = 10000) -> None:
        self._cache: dict[str, Any] = {}
        self.max_size = max_size

    def get(self, key: str) -> Any:
        return self._cache.get(key)

    def set(self, key: str, value: Any) -> None:
        if len(self._cache) >= self.max_size:
            kept = list(self._cache.items())
            self._cache = dict(kept[len(kept) // 2 :])
        self._cache[key] = value

    def clear(self) -> None:
        self._cache.clear()


class PatternCompiler:
    def __init__(self) -> None:
        self.data_sources: dict[str, list[str]] = {}

    def load_config(self, config_path: Path) -> None:
        with config_path.open(encoding="utf-8") as file:
            self.data_sources = yaml.safe_load(file)["data_sources"]

    def expand(self, pattern: str, value: Any, items: Iterable[str]) -> dict[str, Any]:
        parts = pattern.split(".")
        places = [place for place, part in enumerate(parts) if part == "*"]
        if not places:
            return {pattern: value}
        expanded = {}
        for combination in itertools.product(items, repeat=len(places)):
            for place, item in zip(places, combination, strict=True):
                parts[place] = item
            expanded[".".join(parts)] = value
        return expanded
