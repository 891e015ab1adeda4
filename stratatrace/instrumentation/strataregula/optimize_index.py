"""The switch ``index``: lists of files that the index keeps on disk are held in memory, compressed.

They are read anew when their file has changed.
"""

from __future__ import annotations

import time
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace.reuse.store import CompressedStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ["stored_index"]

# A file that was written to just now may be written to again, with no other time of change.
_SETTLED_NS = 2_000_000_000


def stored_index(_module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an `_init_cache` of a provider whose lists are held."""
    init = originals["_init_cache"]

    @wraps(init)
    def _init_cache(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = init(self, *args, **kwargs)
        if isinstance(self._cache_dir, Path):
            self._cache_dir = HeldFolder(self._cache_dir)
        return result

    return {"_init_cache": _init_cache}


class _StandsForPath:
    """Does what a path does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path, name)

    def __fspath__(self) -> str:
        return str(self._path)

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return repr(self._path)

    def __eq__(self, other: object) -> bool:
        return self._path == (other._path if isinstance(other, _StandsForPath) else other)

    def __hash__(self) -> int:
        return hash(self._path)


class HeldFolder(_StandsForPath):
    """A folder, and the texts that were read of its files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._texts: CompressedStore[tuple[str, int, int, int], str] = CompressedStore(name="index")

    def __truediv__(self, name: Any) -> HeldFile:
        return HeldFile(self._path / name, self._texts)


class HeldFile(_StandsForPath):
    """A file whose text is read once."""

    def __init__(self, path: Path, texts: CompressedStore[tuple[str, int, int, int], str]) -> None:
        super().__init__(path)
        self._texts = texts

    def read_text(self, *args: Any, **kwargs: Any) -> str:
        """Return the text, as it is in the file now."""
        if args or kwargs:
            return self._path.read_text(*args, **kwargs)
        status = self._path.stat()
        key = (str(self._path), status.st_mtime_ns, status.st_size, status.st_ino)
        held = self._texts.get(key)
        if held is None:
            held = self._path.read_text()
            if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
                for other in [each for each in self._texts if each[0] == key[0]]:
                    self._texts.pop(other, None)
                self._texts[key] = held
        return held
