"""Lists of files, kept in a folder. This folder is no regular package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Provider:
    def __init__(self) -> None:
        self._cache_dir: Path | None = None

    def _init_cache(self, repo_root: Path) -> None:
        self._cache_dir = repo_root / ".cache"
        self._cache_dir.mkdir(parents=True, exist_ok=True)

    def _load_cache(self, base: str) -> list[Path] | None:
        assert self._cache_dir is not None
        cache_file = self._cache_dir / f"{base}.json"
        if not cache_file.exists():
            return None
        try:
            data: dict[str, Any] = json.loads(cache_file.read_text())
        except ValueError:
            return None
        return [Path(name) for name in data["files"]]

    def _save_cache(self, base: str, files: list[Path]) -> None:
        assert self._cache_dir is not None
        text = json.dumps({"files": [str(path) for path in files]}, indent=2)
        (self._cache_dir / f"{base}.json").write_text(text)
