"""The compiler of single patterns, and the cache that all share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class PatternCache:
    """Drops its older half when it is full."""

    def __init__(self, max_size: int = 10000) -> None:
        self.max_size = max_size
        self._cache: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._cache.get(key)

    def set(self, key: str, value: Any) -> None:
        if len(self._cache) >= self.max_size:
            for old in list(self._cache)[: self.max_size // 2]:
                del self._cache[old]
        self._cache[key] = value

    def clear(self) -> None:
        self._cache.clear()


class PatternCompiler:
    """Expands every ``*`` of a pattern to all words of a source."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._pattern_cache = PatternCache()

    def load_config(self, config_path: Path) -> None:
        self.words = json.loads(config_path.read_text(encoding="utf-8"))["words"]

    def compile_patterns(self, patterns: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for pattern, value in patterns.items():
            expanded = self._pattern_cache.get(pattern)
            if expanded is None:
                expanded = self.expanded(pattern, value)
                self._pattern_cache.set(pattern, expanded)
            result.update(expanded)
        return result

    def expanded(self, pattern: str, value: Any) -> dict[str, Any]:
        if "*" not in pattern:
            return {pattern: value}
        return {pattern.replace("*", word): value for word in self.words}
