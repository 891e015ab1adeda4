"""Notes of what is asked: of an index, of documents, and of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stratatrace.instrumentation.strataregula.notes import Noted, Result, given, length, name_of
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Conversion",
    "FileConversion",
    "Files",
    "OfProvider",
    "Passes",
    "Provider",
    "ProviderSearch",
    "Query",
    "Search",
    "Validation",
    "ViewQuery",
]


class Provider(Noted):
    """What chooses the index's provider."""

    def returned(self, result: Any) -> None:
        """Note which."""
        self.note(semconv.STRATAREGULA_PROVIDER, name_of(getattr(result, "name", None)))


class OfProvider(Noted):
    """Work of a provider."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note which."""
        del keywords
        self.note(semconv.STRATAREGULA_PROVIDER, name_of(getattr(arguments[0], "name", None)))


class Files(OfProvider):
    """What lists files."""

    def returned(self, result: Any) -> None:
        """Note how many."""
        self.note(semconv.STRATAREGULA_FILES, length(result))


class ProviderSearch(OfProvider):
    """A search by a provider."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note which, and in how many files."""
        super().called(arguments, keywords)
        files = given(arguments, keywords, 2, "paths")
        self.note(semconv.STRATAREGULA_FILES, length(files))

    def returned(self, result: Any) -> None:
        """Note how many matches there are."""
        self.note(semconv.STRATAREGULA_MATCHES, length(result))


class Search(Noted):
    """A search in the contents of files."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note in how many, and the provider."""
        files = given(arguments, keywords, 1, "files")
        self.note(semconv.STRATAREGULA_FILES, length(files))
        provider = given(arguments, keywords, 2, "provider")
        self.note(semconv.STRATAREGULA_PROVIDER, name_of(getattr(provider, "name", None)))

    def returned(self, result: Any) -> None:
        """Note how many matches there are."""
        self.note(semconv.STRATAREGULA_MATCHES, length(result))


class Conversion(Result):
    """A conversion of formats."""

    #: Where the formats stand among the arguments.
    first: ClassVar[int] = 2

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the formats."""
        written = given(arguments, keywords, self.first + 1, "to_format")
        self.note(
            semconv.STRATAREGULA_FROM,
            name_of(given(arguments, keywords, self.first, "from_format")),
        )
        self.note(semconv.STRATAREGULA_TO, name_of(written))

    def returned(self, result: Any) -> None:
        """Note whether it has failed, and else the length of the text."""
        super().returned(result)
        self.note(semconv.STRATAREGULA_OUTPUT_SIZE, length(getattr(result, "data", None)))


class FileConversion(Conversion):
    """A conversion from file to file."""

    first = 3


class Query(Result):
    """A query, or what is done with what it finds."""

    def returned(self, result: Any) -> None:
        """Note whether it has failed, and how much it has found."""
        super().returned(result)
        self.note(semconv.STRATAREGULA_MATCHES, length(getattr(result, "matches", None)))


class Validation(Result):
    """A validation; what is not valid has failed."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the schema."""
        schema = given(arguments, keywords, 2, "schema_name")
        self.note(semconv.STRATAREGULA_SCHEMA, name_of(schema))


class Passes(Noted):
    """The passes of a kernel."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note how many there are."""
        del keywords
        self.note(semconv.STRATAREGULA_PASSES, length(getattr(arguments[0], "passes", None)))


class ViewQuery(Noted):
    """A query of a kernel's view, which its cache may answer."""

    component = "kernel"

    def __init__(self) -> None:
        super().__init__()
        self._stats: Any = None
        self._before = (0, 0)

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note the view, and where the kernel's own counters stand."""
        self.note(semconv.STRATAREGULA_VIEW, name_of(given(arguments, keywords, 1, "view_key")))
        self._stats = getattr(arguments[0], "stats", None)
        if self._stats is not None:
            self._before = (self._stats.hits, self._stats.misses)

    def ending(self) -> None:
        """Note the look-up."""
        if self._stats is None:
            return
        hits, misses = self._stats.hits - self._before[0], self._stats.misses - self._before[1]
        self.note(semconv.STRATAREGULA_CACHE_HITS, hits)
        self.note(semconv.STRATAREGULA_CACHE_MISSES, misses)
        self.count(semconv.STRATAREGULA_HIT_COUNT, hits)
        self.count(semconv.STRATAREGULA_MISS_COUNT, misses)
