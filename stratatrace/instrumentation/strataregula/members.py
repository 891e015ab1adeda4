"""The table of what is measured of strataregula: read to instrument it, to undo that, and to tell.

A name that one of its versions does not have is passed by. What is called for each pattern is not
in the table: a span costs more than expanding one does.
"""

from __future__ import annotations

from typing import NamedTuple

from stratatrace.instrumentation.strataregula import notes_compiling as compiling
from stratatrace.instrumentation.strataregula import notes_plugins as plugins
from stratatrace.instrumentation.strataregula import notes_queries as queries
from stratatrace.instrumentation.strataregula import notes_streams as streams
from stratatrace.instrumentation.strataregula.notes import Result
from stratatrace.noting import Notes

__all__ = ["COUNTED", "EXECUTORS", "MEMBERS", "Member"]


class Member(NamedTuple):
    """A method or function that is measured, under its qualified name."""

    component: str
    #: Within the package.
    module: str
    #: Within the module.
    name: str
    #: What is noted of each call.
    notes: type[Notes]


def _members(component: str, module: str, members: dict[str, type[Notes]]) -> tuple[Member, ...]:
    return tuple(Member(component, module, name, noted) for name, noted in members.items())


MEMBERS = (
    *_members(
        "compiler",
        "core.config_compiler",
        {
            "ConfigCompiler.__init__": Notes,
            "ConfigCompiler.compile_traffic_config": compiling.Output,
            "ConfigCompiler.compile_large_config": Notes,
            "ConfigCompiler._load_file": compiling.LoadedFile,
            "ConfigCompiler._setup_hierarchy_from_config": Notes,
            "ConfigCompiler._extract_service_patterns": compiling.Patterns,
            "ConfigCompiler._generate_provenance": Notes,
            "ConfigCompiler._create_output_context": compiling.OutputContext,
            "TemplateEngine.render": compiling.Rendering,
            "compile_config": compiling.Output,
        },
    ),
    *_members(
        "expander",
        "core.pattern_expander",
        {
            "EnhancedPatternExpander.compile_to_static_mapping": compiling.Expansion,
            "EnhancedPatternExpander.expand_pattern_stream": compiling.ExpansionStream,
            "EnhancedPatternExpander.load_rules_from_config": Notes,
            "StreamingPatternProcessor.process_large_patterns": compiling.LargeExpansion,
        },
    ),
    *_members(
        "expander",
        "core.compiler",
        {
            "PatternCompiler.load_config": Notes,
            "PatternCompiler.compile_patterns": compiling.CountedExpansion,
        },
    ),
    *_members(
        "stream",
        "stream.processor",
        {
            "ChunkProcessor.process_chunks": streams.Chunks,
            "ChunkProcessor.process_file_chunks": streams.Chunks,
            "StreamProcessor.process_stream_sync": streams.ChunksWithin,
            "StreamProcessor.process_stream_async": streams.ChunksWithin,
            "StreamProcessor.process_parallel": streams.Parallel,
            "StreamProcessor.cleanup": Notes,
        },
    ),
    *_members(
        "stream",
        "stream.chunker",
        {
            "Chunker.chunk_file": streams.CountedChunks,
            "Chunker.chunk_with_overlap": streams.CountedChunks,
            "Chunker.chunk_iterable": streams.CountedChunks,
        },
    ),
    *_members("index", "index.loader", {"resolve_provider": queries.Provider}),
    *_members(
        "index",
        "index.providers.fastindex",
        {
            "Provider.build": queries.OfProvider,
            "Provider.changed_py": queries.Files,
            "Provider.search": queries.ProviderSearch,
        },
    ),
    *_members("index", "index.content_search", {"search_content": queries.Search}),
    *_members("plugins", "plugins.config", {"PluginConfigManager.__init__": Notes}),
    *_members(
        "plugins",
        "plugins.manager",
        {
            "EnhancedPluginManager.__init__": Notes,
            "EnhancedPluginManager.discover_plugins": plugins.Plugins,
            "EnhancedPluginManager.load_plugin": plugins.Plugin,
            "EnhancedPluginManager.activate_plugin": plugins.Plugin,
            "EnhancedPluginManager.deactivate_plugin": plugins.Plugin,
            "EnhancedPluginManager.unload_plugin": plugins.Plugin,
            "EnhancedPluginManager.shutdown": Notes,
        },
    ),
    *_members(
        "plugins",
        "plugins.loader",
        {
            "PluginLoader.discover_plugins": plugins.Plugins,
            "PluginLoader.load_plugin": plugins.MovedPlugin,
            "PluginLoader.load_all_plugins": plugins.Plugins,
            "PluginLoader.unload_plugin": plugins.MovedPlugin,
            "PluginLoader.reload_plugin": plugins.Plugin,
        },
    ),
    *_members(
        "plugins",
        "plugins.base",
        {
            "PluginManager.register_plugin": plugins.RegisteredPlugin,
            "PluginManager.unregister_plugin": plugins.RegisteredPlugin,
        },
    ),
    *_members(
        "json",
        "json_processor.converter",
        {
            "FormatConverter.convert": queries.Conversion,
            "FormatConverter.convert_file": queries.FileConversion,
        },
    ),
    *_members(
        "json",
        "json_processor.jsonpath",
        {
            "JSONPathProcessor.query": queries.Query,
            "JSONPathProcessor.update": queries.Query,
            "JSONPathProcessor.delete": queries.Query,
            "JSONPathProcessor.aggregate": Notes,
        },
    ),
    *_members(
        "json",
        "json_processor.validator",
        {
            "JSONValidator.validate": queries.Validation,
            "JSONValidator.validate_file": queries.Validation,
        },
    ),
    *_members(
        "json",
        "json_processor.commands",
        {
            "JSONTransformCommand.execute": Result,
            "JSONPathCommand.execute": Result,
            "ValidateJSONCommand.execute": Result,
            "JSONFormatCommand.execute": Result,
            "JSONMergeCommand.execute": Result,
            "JSONFilterCommand.execute": Result,
            "JSONStatsCommand.execute": Result,
        },
    ),
    *_members(
        "kernel",
        "kernel",
        {
            "Kernel.precompile": Notes,
            "Kernel.compile": Notes,
            "Kernel._compile": queries.Passes,
            "Kernel.query": queries.ViewQuery,
        },
    ),
    *_members("kernel", "passes.intern", {"InternPass.run": Notes}),
)

#: Look-ups of which there is one for each pattern: they are counted, and not measured.
COUNTED = (("core.compiler", "PatternCache.get"),)

#: Classes of pools of threads, under the names that a module makes them by: work that they are
#: given joins the trace of who gives it.
EXECUTORS = (("stream.processor", "ThreadPoolExecutor"),)
