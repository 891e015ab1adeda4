"""Commands: coroutines, which are given data and options."""

from __future__ import annotations

import json
from typing import Any

from .jsonpath import JSONPathProcessor
from .validator import JSONValidator


class JSONTransformCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return data


class JSONPathCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args
        if not kwargs.get("path"):
            msg = "a path is needed"
            raise ValueError(msg)
        return JSONPathProcessor().query(data, kwargs["path"]).matches


class ValidateJSONCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args
        result = JSONValidator().validate(data, kwargs.get("schema", "basic"))
        return {"valid": result.valid, "errors": result.errors}


class JSONFormatCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return json.dumps(data)


class JSONMergeCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args
        return {**data, **kwargs.get("merge_data", {})}


class JSONFilterCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return data


class JSONStatsCommand:
    async def execute(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return {"count": len(data)}
