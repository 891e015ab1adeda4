"""The expander: asks plugins, then its cache, and expands what neither has."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .compiler import PatternCache, PatternCompiler

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class RegionHierarchy:
    regions: list[str] = field(default_factory=lambda: ["kanto", "kansai"])
    prefectures: dict[str, str] = field(
        default_factory=lambda: {"tokyo": "kanto", "nara": "kansai"}
    )


class EnhancedPatternExpander:
    def __init__(self, chunk_size: int = 1024, plugin_manager: Any = None) -> None:
        self.base_compiler = PatternCompiler()
        self.hierarchy = RegionHierarchy()
        self.chunk_size = chunk_size
        self.plugin_manager = plugin_manager
        self._expansion_cache = PatternCache(max_size=50)

    def set_hierarchy(self, hierarchy: RegionHierarchy) -> None:
        self.hierarchy = hierarchy
        self._expansion_cache.clear()

    def expand_pattern_stream(self, patterns: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        ordered = sorted(patterns.items(), key=lambda item: self._get_pattern_priority(item[0]))
        for pattern, value in ordered:
            if self.plugin_manager:
                with contextlib.suppress(Exception):
                    plugged = self.plugin_manager.expand_pattern(pattern, {"value": value})
                    if plugged != {pattern: value}:
                        yield from plugged.items()
                        continue
            key = f"{pattern}:{hash(str(value))}"
            expanded = self._expansion_cache.get(key)
            if expanded is None:
                expanded = self._expand_pattern_enhanced(pattern, value)
                self._expansion_cache.set(key, expanded)
            yield from expanded.items()

    def _get_pattern_priority(self, pattern: str) -> int:
        return len(pattern.split(".")) - pattern.count("*")

    def _expand_pattern_enhanced(self, pattern: str, value: Any) -> dict[str, Any]:
        if "*" not in pattern:
            return {pattern: value}
        if pattern.startswith("scaled."):
            return {pattern.replace("*", name): len(name) * 0.5 for name in self.hierarchy.regions}
        by_region = pattern.startswith("hub.")
        items = self.hierarchy.regions if by_region else list(self.hierarchy.prefectures)
        return self.base_compiler.expand(pattern, value, items)

    def compile_to_static_mapping(self, patterns: dict[str, Any]) -> dict[str, Any]:
        direct: dict[str, Any] = {}
        component = dict(self.expand_pattern_stream(patterns))
        return {
            "direct_mapping": direct,
            "component_mapping": component,
            "metadata": {
                "total_patterns": len(direct) + len(component),
                "cache_size": len(self._expansion_cache._cache),
            },
        }


class StreamingPatternProcessor:
    def __init__(self, expander: EnhancedPatternExpander) -> None:
        self.expander = expander

    def process_large_patterns(self, patterns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        size = self._calculate_chunk_size(len(patterns))
        items = list(patterns.items())
        for start in range(0, len(items), size):
            yield dict(self.expander.expand_pattern_stream(dict(items[start : start + size])))

    def _calculate_chunk_size(self, total_patterns: int) -> int:
        return max(1, total_patterns // 10)
