"""Which package a file is of."""

from __future__ import annotations

import sys
import sysconfig
from functools import cached_property
from pathlib import PurePath

__all__ = ["Packages"]

_FROZEN = "<frozen "
_SITES = {"site-packages", "dist-packages"}


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
        for name, module in list(sys.modules.items()):
            try:
                file = module.__file__
            except Exception:  # noqa: S112 -- a module may be any object, even one that raises
                continue
            if isinstance(file, str) and name != "__main__":
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
