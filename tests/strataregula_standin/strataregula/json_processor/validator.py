"""Validation. What is wrong is in the result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class ValidationResult:
    valid: bool
    message: str
    errors: list[str] = field(default_factory=list)


class JSONValidator:
    def __init__(self) -> None:
        self.schemas = {"basic", "config"}

    def validate(self, data: Any, schema_name: str | None = None) -> ValidationResult:
        if (schema_name or "basic") not in self.schemas:
            return ValidationResult(valid=False, message="no such schema")
        valid = isinstance(data, dict) and (schema_name != "config" or "version" in data)
        return ValidationResult(valid, "", [] if valid else ["it does not fit"])

    def validate_file(
        self, file_path: str | Path, schema_name: str | None = None
    ) -> ValidationResult:
        try:
            data = json.loads(Path(file_path).read_text(encoding="utf-8"))
        except Exception as error:
            return ValidationResult(valid=False, message=str(error))
        return self.validate(data, schema_name)
