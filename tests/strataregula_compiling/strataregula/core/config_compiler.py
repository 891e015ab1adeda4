"""The compiler of configurations."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from .pattern_expander import (
    EnhancedPatternExpander,
    RegionHierarchy,
    StreamingPatternProcessor,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)


def _safe_trigger_hook(plugin_manager: Any, hook_name: str, **kwargs: Any) -> None:
    if plugin_manager is None:
        return
    try:
        logger.debug(f"{hook_name} with {kwargs}")  # noqa: G004 -- that is what it costs
    except Exception as error:
        logger.debug("%s failed: %s", hook_name, error)


_PYTHON = '''"""From {input_files}."""

DIRECT = {direct_code}

COMPONENT = {component_code}

METADATA = {metadata_code:s}

def find(key):
    return {{**DIRECT, **COMPONENT}}.get(key)
'''


@dataclass
class CompilationConfig:
    output_format: str = "python"
    chunk_size: int = 1024


class TemplateEngine:
    def __init__(self) -> None:
        self.templates = {
            "python": _PYTHON,
            "json": '{{"direct": {direct},\n"component": {component!s},\n"metadata": {metadata}}}',
            "yaml": "direct:\n{direct_yaml}\ncomponent:\n{component_yaml}\n{metadata_yaml}\n",
        }

    def render(self, template_name: str, context: dict[str, Any]) -> str:
        if template_name not in self.templates:
            msg = f"no template {template_name}"
            raise ValueError(msg)
        return self.templates[template_name].format(**context)


class ConfigCompiler:
    def __init__(self, config: CompilationConfig | None = None, plugin_manager: Any = None) -> None:
        self.config = config or CompilationConfig()
        self.plugin_manager = plugin_manager
        self.expander = EnhancedPatternExpander(self.config.chunk_size, plugin_manager)
        self.streaming_processor = StreamingPatternProcessor(self.expander)
        self.template_engine = TemplateEngine()

    def compile_traffic_config(
        self,
        traffic_file: Path,
        prefectures_file: Path | None = None,
        output_file: Path | None = None,
    ) -> str:
        try:
            patterns = self._extract_service_patterns(self._load_file(traffic_file))
            if prefectures_file:
                self._setup_hierarchy_from_config(self._load_file(prefectures_file))
            _safe_trigger_hook(self.plugin_manager, "pre_expand", patterns=patterns)
            compiled = self.expander.compile_to_static_mapping(patterns)
            _safe_trigger_hook(self.plugin_manager, "post_expand", compiled_mapping=compiled)
            provenance = self._generate_provenance([traffic_file, prefectures_file])
            context = self._create_output_context(compiled, provenance)
            content = self.template_engine.render(self.config.output_format, context)
            if output_file:
                with open(output_file, "w", encoding="utf-8") as file:  # noqa: PTH123 -- so there
                    file.write(content)
        except Exception as error:
            logger.error("Compilation failed: %s", error)  # noqa: TRY400 -- so there
            raise
        return content

    def compile_large_config(
        self,
        input_file: Path,
        output_file: Path,
        progress_callback: Callable[[int, int], object] | None = None,
    ) -> None:
        try:
            patterns = self._extract_service_patterns(self._load_file(input_file))
            mappings: dict[str, dict[str, Any]] = {"direct_mapping": {}, "component_mapping": {}}
            total = max(1, len(patterns) // self.config.chunk_size)
            chunks = self.streaming_processor.process_large_patterns(patterns)
            for number, chunk in enumerate(chunks, 1):
                for key, value in chunk.items():
                    mappings["component_mapping" if "." in key else "direct_mapping"][key] = value
                if progress_callback:
                    progress_callback(number, total)
            provenance = self._generate_provenance([input_file])
            context = self._create_output_context(mappings, provenance)
            content = self.template_engine.render(self.config.output_format, context)
            with open(output_file, "w", encoding="utf-8") as file:  # noqa: PTH123 -- so there
                file.write(content)
        except Exception as error:
            logger.error("Large compilation failed: %s", error)  # noqa: TRY400 -- so there
            raise

    def _load_file(self, file_path: Path) -> Any:
        with open(file_path, encoding="utf-8") as file:  # noqa: PTH123 -- so there
            if file_path.suffix == ".json":
                return json.load(file)
            return yaml.safe_load(file) or {}

    def _setup_hierarchy_from_config(self, config_data: dict[str, Any]) -> None:
        self.expander.set_hierarchy(
            RegionHierarchy(config_data.get("regions", []), config_data.get("prefectures", {}))
        )

    def _extract_service_patterns(self, data: dict[str, Any]) -> dict[str, Any]:
        patterns: dict[str, Any] = data.get("service_times", data)
        return patterns

    def _generate_provenance(self, input_files: list[Path | None]) -> dict[str, Any]:
        return {
            "input_files": [path.name for path in input_files if path],
            "patterns_processed": len(self.expander._expansion_cache._cache),
        }

    def _create_output_context(
        self, compiled_mapping: dict[str, Any], provenance: dict[str, Any]
    ) -> dict[str, Any]:
        direct = compiled_mapping.get("direct_mapping", {})
        component = compiled_mapping.get("component_mapping", {})
        metadata = compiled_mapping.get("metadata", {})
        metadata["provenance"] = provenance
        if self.config.output_format == "python":
            return {
                "input_files": ", ".join(provenance["input_files"]),
                "direct_code": self._format_python_dict(direct),
                "component_code": self._format_python_dict(component),
                "metadata_code": self._format_python_dict(metadata),
            }
        if self.config.output_format == "json":
            parts = {"direct": direct, "component": component, "metadata": metadata}
            return {name: json.dumps(part, indent=2) for name, part in parts.items()}
        parts = {"direct_yaml": direct, "component_yaml": component, "metadata_yaml": metadata}
        return {name: yaml.dump(part) for name, part in parts.items()}

    def _format_python_dict(self, data: dict[str, Any]) -> str:
        if not data:
            return "{}"
        lines = []
        for key, value in data.items():
            if isinstance(value, str):
                lines.append(f'    "{key}": "{value}"')
            elif isinstance(value, (int, float)):
                lines.append(f'    "{key}": {value}')
            else:
                lines.append(f'    "{key}": {json.dumps(value)}')
        return "{\n" + ",\n".join(lines) + "\n}"
