"""Which package a file is of."""

from __future__ import annotations

import sys
import sysconfig
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["Packages", "loaded_modules"]

_FROZEN = "<frozen "
_SITES = {"site-packages", "dist-packages"}


def loaded_modules() -> Iterator[tuple[str, str, ModuleType]]:
    """Yield the name, the file and the module itself of each that is loaded from a file."""
    for name, module in list(sys.modules.items()):
        try:
            file = module.__file__
        except Exception:  # noqa: S112 -- it may be any object, even one that raises
            continue
        if isinstance(file, str):
            yield name, file, module


class Packages:
    """Finds what to import to have a file: the first part of its module's name.

    A module that is loaded says so itself. Of others it is read from the path: what follows
    ``site-packages``, or a folder of `sys.path`. A file that cannot be imported, such as the script
    that was run, is known by its own name.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, file: str) -> str:
        """Return the package of a file.

        Args:
            file: Its path, or what stands for one, such as ``<frozen importlib._bootstrap>``.
        """
        package = self._known.get(file)
        if package is None:
            package = self._known[file] = self._found(file)
        return package

    def _found(self, file: str) -> str:
        if file.startswith(_FROZEN):
            return file.removeprefix(_FROZEN).removesuffix(">").split(".")[0]
        return self._loaded.get(file) or self._by_path(file)

    @cached_property
    def _loaded(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, file, _ in loaded_modules():
            if name != "__main__":
                found.setdefault(file, name.split(".")[0])
        return found

    @cached_property
    def _roots(self) -> list[PurePath]:
        paths = {sysconfig.get_path("stdlib"), *sys.path} - {""}
        return sorted(map(PurePath, paths), key=lambda path: -len(path.parts))

    def _by_path(self, file: str) -> str:
        path = PurePath(file)
        for at, part in enumerate(path.parts[:-1]):
            if part in _SITES:
                return path.parts[at + 1].removesuffix(".py")
        for root in self._roots:
            if path.is_relative_to(root) and path != root:
                return path.relative_to(root).parts[0]
        return path.name
