"""Queries by paths of names, such as ``$.services.web``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class JSONPathResult:
    success: bool
    data: Any = None
    matches: list[Any] = field(default_factory=list)
    error: str | None = None


class JSONPathProcessor:
    def query(self, data: Any, path: str, extended: bool = True) -> JSONPathResult:
        del extended
        return self._found(data, path)

    def _found(self, data: Any, path: str) -> JSONPathResult:
        try:
            start, *names = path.split(".")
            if start != "$":
                msg = "a path begins with $"
                raise ValueError(msg)
            found = data
            for name in names:
                if not isinstance(found, dict) or name not in found:
                    return JSONPathResult(success=True, data=data)
                found = found[name]
            return JSONPathResult(success=True, data=data, matches=[found])
        except Exception as error:
            return JSONPathResult(success=False, error=str(error))

    def update(self, data: Any, path: str, value: Any, extended: bool = True) -> JSONPathResult:
        del extended
        above, _, name = path.rpartition(".")
        result = self._found(data, above)
        for owner in result.matches:
            owner[name] = value
        return result

    def delete(self, data: Any, path: str, extended: bool = True) -> JSONPathResult:
        del extended
        above, _, name = path.rpartition(".")
        result = self._found(data, above)
        for owner in result.matches:
            owner.pop(name, None)
        return result

    def aggregate(self, data: Any, path: str, operation: str = "sum", extended: bool = True) -> Any:
        values = self.query(data, path, extended).matches
        return sum(values) if values and operation == "sum" else None
