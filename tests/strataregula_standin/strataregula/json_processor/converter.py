"""Conversions. What goes wrong is in the result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class ConversionResult:
    success: bool
    data: Any = None
    error: str | None = None


class FormatConverter:
    def convert(
        self, data: Any, from_format: str, to_format: str, **options: Any
    ) -> ConversionResult:
        try:
            if {from_format, to_format} - {"json"}:
                msg = "no such format"
                raise ValueError(msg)
            parsed = json.loads(data) if isinstance(data, str) else data
            return ConversionResult(success=True, data=json.dumps(parsed, **options))
        except Exception as error:
            return ConversionResult(success=False, error=str(error))

    def convert_file(
        self,
        input_file: str | Path,
        output_file: str | Path,
        from_format: str | None = None,
        to_format: str | None = None,
        **options: Any,
    ) -> ConversionResult:
        try:
            text = Path(input_file).read_text(encoding="utf-8")
            result = self.convert(text, from_format or "json", to_format or "json", **options)
            if result.success:
                Path(output_file).write_text(result.data, encoding="utf-8")
            return result
        except Exception as error:
            return ConversionResult(success=False, error=str(error))
