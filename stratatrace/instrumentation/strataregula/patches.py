"""Putting what is measured in place as strataregula is imported, and taking it out again."""

from __future__ import annotations

import logging
import threading
import types
from functools import partial
from typing import TYPE_CHECKING, Any

from stratatrace.callsites import Options, describe_function
from stratatrace.instrumentation.strataregula.look_ups import look_ups
from stratatrace.instrumentation.strataregula.members import (
    COUNTED,
    EXECUTORS,
    MEMBERS,
    Member,
)
from stratatrace.patching import PatchTable
from stratatrace.propagation import carrying
from stratatrace.telemetry import semconv
from stratatrace.wrapping import is_measured, measured_member, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["Patches", "patches"]

_logger = logging.getLogger("stratatrace")
_PACKAGE = "strataregula"
_FUNCTIONS = (types.FunctionType, classmethod, staticmethod)


class Patches:
    """What is in place now."""

    def __init__(self) -> None:
        self._table: PatchTable | None = None
        self._lock = threading.RLock()

    def apply(self) -> None:
        """Measure what is imported, and what will be; a second time does nothing."""
        with self._lock:
            if self._table is not None:
                return
            table = self._table = PatchTable()
        modules = {member.module for member in MEMBERS}
        modules |= {module for module, _ in (*COUNTED, *EXECUTORS)}
        for module in sorted(modules):
            when_imported(f"{_PACKAGE}.{module}", lambda found: self._patch(found, table))

    def undo(self) -> None:
        """Put back the very objects that were there."""
        with self._lock:
            table, self._table = self._table, None
            if table is not None:
                table.undo()

    def _patch(self, module: ModuleType, table: PatchTable) -> None:
        """Measure what a module has; called by the import system, which must not see us fail."""
        name = module.__name__.removeprefix(f"{_PACKAGE}.")
        with self._lock:
            if self._table is not table:
                return
            for member in MEMBERS:
                if member.module == name:
                    _guarded(module, member.name, table, partial(_measured, member))
            for of, path in COUNTED:
                if of == name:
                    _guarded(module, path, table, look_ups.counted)
            for of, path in EXECUTORS:
                if of == name:
                    _guarded(module, path, table, carrying)


def _guarded(
    module: ModuleType, path: str, table: PatchTable, make: Callable[[Any], Any | None]
) -> None:
    try:
        _replace(module, path, table, make)
    except Exception:
        _logger.warning(
            "stratatrace could not measure %s of %s", path, module.__name__, exc_info=True
        )


def _replace(
    module: ModuleType, path: str, table: PatchTable, make: Callable[[Any], Any | None]
) -> None:
    """Put what *make* returns in the place of what a module has under a name."""
    owner_name, _, name = path.rpartition(".")
    owner: Any = vars(module).get(owner_name) if owner_name else module
    original = vars(owner).get(name) if isinstance(owner, type | types.ModuleType) else None
    replacement = None if original is None or is_measured(original) else make(original)
    if replacement is None:
        _logger.debug("stratatrace: %s has no %s that it knows", module.__name__, path)
    elif owner is module and isinstance(original, types.FunctionType):
        table.replace_everywhere(original, replacement)
    else:
        table.replace(owner, name, replacement)


def _measured(member: Member, found: Any) -> Any | None:
    if not isinstance(found, _FUNCTIONS):
        return None
    options = Options(attributes={semconv.STRATAREGULA_COMPONENT.name: member.component})
    return measured_member(found, lambda f: describe_function(f, options), member.notes)


patches = Patches()
