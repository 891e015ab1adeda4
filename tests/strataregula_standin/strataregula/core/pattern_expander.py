"""The expander, which streams what patterns are expanded to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .compiler import PatternCache, PatternCompiler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class EnhancedPatternExpander:
    """Asks plugins first, then its cache, and expands by itself what neither has."""

    def __init__(self, chunk_size: int = 1024, plugin_manager: Any = None) -> None:
        self.chunk_size = chunk_size
        self.plugin_manager = plugin_manager
        self.base_compiler = PatternCompiler()
        self.base_compiler.words = [f"region{number}" for number in range(7)]
        self._expansion_cache = PatternCache(max_size=50000)

    def load_rules_from_config(self, config_path: Path) -> None:
        self.base_compiler.load_config(config_path)

    def expand_pattern_stream(self, patterns: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for pattern, value in sorted(patterns.items()):
            if self.plugin_manager:
                try:
                    plugged = self.plugin_manager.expand_pattern(pattern, {"value": value})
                    if plugged != {pattern: value}:
                        yield from plugged.items()
                        continue
                except:  # Swallows a GeneratorExit, as that of the real one does.
                    pass
            key = f"{pattern}={value}"
            expanded = self._expansion_cache.get(key)
            if expanded is None:
                expanded = self._expand_pattern_enhanced(pattern, value)
                self._expansion_cache.set(key, expanded)
            yield from expanded.items()

    def _expand_pattern_enhanced(self, pattern: str, value: Any) -> dict[str, Any]:
        return self.base_compiler.expanded(pattern, value)

    def compile_to_static_mapping(self, patterns: dict[str, Any]) -> dict[str, Any]:
        component_mapping = dict(self.expand_pattern_stream(patterns))
        return {"direct_mapping": {}, "component_mapping": component_mapping, "metadata": {}}


class StreamingPatternProcessor:
    """Ten chunks or so, whatever it is told."""

    def __init__(self, expander: EnhancedPatternExpander, max_memory_mb: int = 200) -> None:
        self.expander = expander
        self.max_memory_mb = max_memory_mb

    def process_large_patterns(self, patterns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        items = list(patterns.items())
        size = max(1, len(items) // 10)
        for start in range(0, len(items), size):
            yield dict(self.expander.expand_pattern_stream(dict(items[start : start + size])))


PatternExpander = EnhancedPatternExpander
RegionPrefectureResolver = EnhancedPatternExpander
