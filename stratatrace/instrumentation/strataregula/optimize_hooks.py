"""The switch ``hooks``: what is told to no hook is not made into text either.

`_safe_trigger_hook` calls nobody. It has the text of its arguments made for a debug message: of all
patterns, of all that they expand to, and of the whole output, whether debug messages are shown or
not.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ["quiet_hooks"]

_KNOWN_NAMES = {"hasattr", "logger", "debug", "Exception"}


def quiet_hooks(module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a function that does nothing where the original would only make a debug message."""
    trigger = originals["_safe_trigger_hook"]
    code = getattr(trigger, "__code__", None)
    if code is None or not set(code.co_names) <= _KNOWN_NAMES:
        return None  # It does more than that, such as calling hooks.

    @wraps(trigger)
    def _safe_trigger_hook(*args: Any, **kwargs: Any) -> Any:
        if module.logger.isEnabledFor(logging.DEBUG):
            return trigger(*args, **kwargs)
        return None

    return {"_safe_trigger_hook": _safe_trigger_hook}
