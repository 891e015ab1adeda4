"""Chooses who knows the files."""

from __future__ import annotations

import importlib
from typing import Any


def resolve_provider(cli_arg: str | None = None, cfg: dict[str, Any] | None = None) -> Any:
    name = cli_arg or (cfg or {}).get("index", {}).get("provider") or "builtin:fastindex"
    try:
        module = name.replace("builtin:", "strataregula.index.providers.")
        return importlib.import_module(module).Provider()
    except Exception:
        from .providers.fastindex import Provider

        return Provider()
