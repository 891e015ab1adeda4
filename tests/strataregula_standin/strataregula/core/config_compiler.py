"""The compiler of configurations: its stages, in their order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pattern_expander import EnhancedPatternExpander, StreamingPatternProcessor

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class CompilationConfig:
    output_format: str = "python"
    chunk_size: int = 1024
    max_memory_mb: int = 200


class TemplateEngine:
    def __init__(self) -> None:
        self.templates = {"python": "MAPPING = {mapping}\n", "json": "{mapping}"}

    def render(self, template_name: str, context: dict[str, Any]) -> str:
        if template_name not in self.templates:
            msg = f"no template {template_name}"
            raise ValueError(msg)
        return self.templates[template_name].format(**context)


class ConfigCompiler:
    def __init__(self, config: CompilationConfig | None = None, use_plugins: bool = True) -> None:
        self.config = config or CompilationConfig()
        self.plugin_manager = None
        if use_plugins:
            # Here, as the real one does: it fails where what it needs is not installed.
            from ..plugins.config import PluginConfigManager
            from ..plugins.manager import EnhancedPluginManager

            manager = EnhancedPluginManager(config=PluginConfigManager().get_global_config())
            manager.discover_plugins()
            self.plugin_manager = manager
        self.expander = EnhancedPatternExpander(self.config.chunk_size, self.plugin_manager)
        self.streaming_processor = StreamingPatternProcessor(self.expander)
        self.template_engine = TemplateEngine()

    def compile_traffic_config(
        self,
        traffic_file: Path,
        prefectures_file: Path | None = None,
        output_file: Path | None = None,
    ) -> str:
        traffic = self._load_file(traffic_file)
        if prefectures_file and prefectures_file.exists():
            self._setup_hierarchy_from_config(self._load_file(prefectures_file))
        patterns = self._extract_service_patterns(traffic)
        mapping = self.expander.compile_to_static_mapping(patterns)
        provenance = self._generate_provenance([traffic_file, prefectures_file], 0.0)
        context = self._create_output_context(mapping, provenance)
        content = self.template_engine.render(self.config.output_format, context)
        if output_file:
            output_file.write_text(content, encoding="utf-8")
        return content

    def compile_large_config(
        self,
        input_file: Path,
        output_file: Path,
        progress_callback: Callable[[int, int], object] | None = None,
    ) -> None:
        patterns = self._extract_service_patterns(self._load_file(input_file))
        components: dict[str, Any] = {}
        chunks = self.streaming_processor.process_large_patterns(patterns)
        for number, chunk in enumerate(chunks, 1):
            components.update(chunk)
            if progress_callback:
                progress_callback(number, 10)
        provenance = self._generate_provenance([input_file], 0.0)
        mapping = {"direct_mapping": {}, "component_mapping": components}
        context = self._create_output_context(mapping, provenance)
        content = self.template_engine.render(self.config.output_format, context)
        output_file.write_text(content, encoding="utf-8")

    def _load_file(self, file_path: Path) -> dict[str, Any]:
        if not file_path.exists():
            return {}
        loaded: dict[str, Any] = json.loads(file_path.read_text(encoding="utf-8"))
        return loaded

    def _setup_hierarchy_from_config(self, config_data: dict[str, Any]) -> None:
        self.expander.base_compiler.words = list(config_data.get("regions", ()))

    def _extract_service_patterns(self, data: dict[str, Any]) -> dict[str, Any]:
        patterns: dict[str, Any] = data.get("service_times", data)
        return patterns

    def _generate_provenance(self, input_files: list[Any], start_time: float) -> dict[str, Any]:
        return {"input_files": [str(path) for path in input_files if path], "took": -start_time}

    def _create_output_context(
        self, compiled_mapping: dict[str, Any], provenance: dict[str, Any]
    ) -> dict[str, Any]:
        mapping = {**compiled_mapping["direct_mapping"], **compiled_mapping["component_mapping"]}
        return {"mapping": json.dumps(mapping, indent=1), **provenance}


def compile_config(
    traffic_file: str, prefectures_file: str | None = None, output_file: str | None = None
) -> str:
    return ConfigCompiler().compile_traffic_config(
        Path(traffic_file),
        Path(prefectures_file) if prefectures_file else None,
        Path(output_file) if output_file else None,
    )
