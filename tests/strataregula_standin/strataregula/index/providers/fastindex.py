"""Lists files. The folder that it is in is no regular package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Provider:
    name = "fastindex"
    capabilities: ClassVar[set[str]] = {"paths"}

    def build(self, entries: Iterable[Path] | None = None) -> None:
        del entries

    def changed_py(
        self, base: str | None, roots: list[str], repo_root: Path, verbose: bool = False
    ) -> list[Path]:
        del base, verbose
        return sorted(path for root in roots for path in (repo_root / root).rglob("*.py"))

    def search(self, pattern: str, paths: list[Path]) -> list[str]:
        del pattern, paths
        return []

    def stats(self) -> dict[str, Any]:
        return {"provider": self.name}
