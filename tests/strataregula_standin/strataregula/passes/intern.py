"""A pass that keeps equal texts once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class InternPass:
    collect_stats: bool = False

    def run(self, model: Any) -> Any:
        return {sys.intern(name): value for name, value in model.items()}
