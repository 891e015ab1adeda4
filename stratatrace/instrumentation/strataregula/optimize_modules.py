"""A module as one other module sees it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

__all__ = ["SeenModule"]


class SeenModule(ModuleType):
    """Stands for a module, with some of its names replaced.

    Args:
        module: The module.
        replaced: What is there instead, by name.
    """

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        vars(self).update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
