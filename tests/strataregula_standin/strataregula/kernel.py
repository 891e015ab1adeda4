"""The kernel: passes, views, and a cache of what views have answered."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CompiledConfig:
    data: Any


@dataclass
class CacheStats:
    hits: int = 0
    misses: int = 0
    total_queries: int = 0


@dataclass
class Kernel:
    passes: list[Any] = field(default_factory=list)
    views: dict[str, Any] = field(default_factory=dict)
    stats: CacheStats = field(default_factory=CacheStats)
    answers: dict[str, Any] = field(default_factory=dict)

    def _compile(self, raw_cfg: Any) -> Any:
        for each in self.passes:
            raw_cfg = each.run(raw_cfg)
        return raw_cfg

    def compile(self, raw_cfg: Any) -> Any:
        # Who is to blame is told by the frame that stands around this one.
        warnings.warn("compile() is deprecated", DeprecationWarning, stacklevel=2)
        return self._compile(raw_cfg)

    def precompile(self, raw_cfg: Any) -> CompiledConfig:
        return CompiledConfig(self._compile(raw_cfg))

    def query(self, view_key: str, params: dict[str, Any], cfg: Any) -> Any:
        self.stats.total_queries += 1
        compiled = cfg.data if isinstance(cfg, CompiledConfig) else self._compile(cfg)
        key = json.dumps([view_key, params, compiled], sort_keys=True)
        if key in self.answers:
            self.stats.hits += 1
            return self.answers[key]
        self.stats.misses += 1
        if view_key not in self.views:
            msg = f"no view {view_key}"
            raise KeyError(msg)
        try:
            answer = self.answers[key] = self.views[view_key].materialize(compiled, **params)
        except Exception as error:
            msg = f"view {view_key} has failed"
            raise ValueError(msg) from error
        return answer

    def register_view(self, view: Any) -> None:
        self.views[view.key] = view
