"""Notes of the compiler of configurations, and of what expands patterns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.look_ups import look_ups
from stratatrace.instrumentation.strataregula.notes import Noted, given, length, name_of
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CountedExpansion",
    "Expansion",
    "ExpansionStream",
    "LargeExpansion",
    "LoadedFile",
    "Output",
    "OutputContext",
    "Patterns",
    "Rendering",
]


def _expansions(mapping: object) -> int | None:
    """Return how many entries a compiled mapping has."""
    if not isinstance(mapping, dict):
        return None
    parts = (mapping.get("direct_mapping"), mapping.get("component_mapping"))
    return sum(length(part) or 0 for part in parts)


class Output(Noted):
    """A compile, which returns the text that it has made."""

    def returned(self, result: Any) -> None:
        """Note its length."""
        self.note(semconv.STRATAREGULA_OUTPUT_SIZE, length(result))


class LoadedFile(Noted):
    """The reading of an input file."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the file's size."""
        path = given(arguments, keywords, 1, "file_path")
        if isinstance(path, Path) and path.is_file():
            self.note(semconv.STRATAREGULA_INPUT_SIZE, path.stat().st_size)

    def returned(self, result: Any) -> None:
        """Note how many entries it has."""
        self.note(semconv.STRATAREGULA_ENTRIES, length(result))


class Patterns(Noted):
    """What finds the patterns in the input."""

    def returned(self, result: Any) -> None:
        """Note how many there are."""
        self.note(semconv.STRATAREGULA_PATTERNS, length(result))


class Rendering(Output):
    """The filling of a template."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the template."""
        name = given(arguments, keywords, 1, "template_name")
        self.note(semconv.STRATAREGULA_TEMPLATE, name_of(name))


class OutputContext(Noted):
    """What turns the mapping to the parts of the output."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the size of the mapping."""
        mapping = given(arguments, keywords, 1, "compiled_mapping")
        self.note(semconv.STRATAREGULA_EXPANSIONS, _expansions(mapping))


class Expansion(Noted):
    """An expansion of patterns to a mapping."""

    component = "expander"

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note how many patterns there are."""
        patterns = given(arguments, keywords, 1, "patterns")
        self.note(semconv.STRATAREGULA_PATTERNS, length(patterns))

    def returned(self, result: Any) -> None:
        """Note what they were expanded to."""
        self.note(semconv.STRATAREGULA_EXPANSIONS, _expansions(result))


class CountedExpansion(Expansion):
    """The same, by the compiler of single patterns, which nothing else counts."""

    def returned(self, result: Any) -> None:
        """Note what they were expanded to, and count it."""
        self.note(semconv.STRATAREGULA_EXPANSIONS, length(result))
        patterns = self.attributes.get(semconv.STRATAREGULA_PATTERNS.name)
        self.count(semconv.STRATAREGULA_PATTERN_COUNT, int(patterns or 0))
        self.count(semconv.STRATAREGULA_EXPANSION_COUNT, length(result) or 0)


class ExpansionStream(Expansion):
    """The stream of all expansions, in which nothing is done for each of them but counting."""

    each_step = False

    def __init__(self) -> None:
        super().__init__()
        self._take_look_ups: Callable[[], tuple[int, int]] | None = None

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note how many patterns there are, and listen to the expander's cache."""
        super().called(arguments, keywords)
        cache = getattr(arguments[0], "_expansion_cache", None)
        if cache is not None:
            self._take_look_ups = look_ups.listen(cache)

    def gave_in_all(self, items: int) -> None:
        """Note how many expansions there were."""
        self.note(semconv.STRATAREGULA_EXPANSIONS, items)
        self.count(semconv.STRATAREGULA_EXPANSION_COUNT, items)

    def ending(self) -> None:
        """Note the look-ups."""
        patterns = self.attributes.get(semconv.STRATAREGULA_PATTERNS.name)
        self.count(semconv.STRATAREGULA_PATTERN_COUNT, int(patterns or 0))
        if self._take_look_ups is not None:
            hits, misses = self._take_look_ups()
            self.note(semconv.STRATAREGULA_CACHE_HITS, hits)
            self.note(semconv.STRATAREGULA_CACHE_MISSES, misses)
            self.count(semconv.STRATAREGULA_HIT_COUNT, hits)
            self.count(semconv.STRATAREGULA_MISS_COUNT, misses)


class LargeExpansion(Expansion):
    """An expansion in chunks, each a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks = self._expansions = 0

    def gave(self, item: Any) -> None:
        """Add one more chunk."""
        self._chunks += 1
        self._expansions += length(item) or 0

    def ending(self) -> None:
        """Note what there was."""
        self.note(semconv.STRATAREGULA_CHUNKS, self._chunks)
        self.note(semconv.STRATAREGULA_EXPANSIONS, self._expansions)
