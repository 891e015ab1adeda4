"""What programs do with strataregula, well and badly: by name, with the spans that tell of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .conftest import Library

    Scenario = Callable[[Library], Any]

PATTERNS = {f"edge.*.{number}": number / 10 for number in range(12)} | {"api.web": 1.0}

GOOD_PLUGIN = """
from strataregula.plugins.base import PatternPlugin, PluginInfo

class Good(PatternPlugin):
    plugin_name = "good"

    def __init__(self):
        super().__init__(PluginInfo("good", "1", ""))
        self.table = [str(number) for number in range(10_000)]

    async def process(self, pattern, data):
        return data

    def can_handle(self, pattern):
        return pattern.startswith("plug.")

    def expand(self, pattern, context):
        return {f"{pattern}.{number}": context["value"] for number in range(3)}
"""
BROKEN_PLUGIN = "this is no Python\n"
RAISING_PLUGIN = GOOD_PLUGIN.replace("good", "raising").replace(
    "        self.table", "        raise OSError('no plugin today')\n        self.table"
)


def written(name: str, text: object) -> Path:
    """Write a file into the current folder."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def stable(text: str) -> list[str]:
    """Return the lines of an output but those that tell of the time."""
    words = ("timestamp", "fingerprint", "Generated", "_seconds", "METADATA", "provenance")
    return [line for line in text.splitlines() if not any(word in line for word in words)]


def compile_config(library: Library) -> object:
    """Compile, with plugins and with a file of regions."""
    compiler = library.core__config_compiler.ConfigCompiler()
    traffic = written("traffic.json", {"service_times": PATTERNS})
    regions = written("regions.json", {"regions": ["east", "west"]})
    text = compiler.compile_traffic_config(traffic, regions, Path("out.py"))
    assert Path("out.py").read_text(encoding="utf-8") == text
    return stable(text)


def compile_by_function(library: Library) -> object:
    """Compile by the function that the package has for it."""
    traffic = written("traffic.json", {"service_times": PATTERNS})
    return stable(library.core__config_compiler.compile_config(str(traffic)))


def compile_large(library: Library) -> object:
    """Compile in chunks."""
    compiler = library.core__config_compiler.ConfigCompiler(use_plugins=False)
    many = {f"edge.{number}.web": number for number in range(100)}
    source = written("traffic.json", {"service_times": many})
    seen: list[int] = []
    compiler.compile_large_config(source, Path("out.py"), lambda done, _all: seen.append(done))
    return seen, stable(Path("out.py").read_text(encoding="utf-8"))


def compile_broken_input(library: Library) -> object:
    """Compile what is no JSON."""
    compiler = library.core__config_compiler.ConfigCompiler(use_plugins=False)
    return compiler.compile_traffic_config(written("traffic.json", "{"))


def compile_without_template(library: Library) -> object:
    """Compile to a format that there is not: it fails half way."""
    compilers = library.core__config_compiler
    compiler = compilers.ConfigCompiler(use_plugins=False)
    compiler.template_engine.templates.clear()
    return compiler.compile_traffic_config(written("traffic.json", PATTERNS))


def expand_twice(library: Library) -> object:
    """Expand the same patterns twice, of which the second time all are in the cache."""
    expander = library.core__pattern_expander.EnhancedPatternExpander()
    return [list(expander.expand_pattern_stream(PATTERNS)) for _ in range(2)]


def expand_abandoned(library: Library) -> object:
    """Take one expansion and no more."""
    stream = library.core__pattern_expander.EnhancedPatternExpander().expand_pattern_stream(
        PATTERNS
    )
    first = next(stream)
    stream.close()
    return first, list(stream)


def _plugged(library: Library) -> Any:
    """Return an expander with a plugin, put in as one that works can be put in."""
    managers = library.plugins__manager
    namespace: dict[str, Any] = {}
    exec(GOOD_PLUGIN, namespace)
    manager = managers.EnhancedPluginManager()
    context = managers.PluginContext(
        plugin=namespace["Good"](), state=managers.PluginState.LOADED, load_time=0, last_used=0
    )
    manager._plugins["good"] = context
    assert manager.activate_plugin("good")
    return library.core__pattern_expander.EnhancedPatternExpander(plugin_manager=manager)


def expand_by_plugin(library: Library) -> object:
    """Expand patterns of which a plugin takes one."""
    return list(_plugged(library).expand_pattern_stream({"plug.a": 1, "api.web": 2}))


def expand_abandoned_in_plugin(library: Library) -> object:
    """Close a stream where a bare except swallows that."""
    stream = _plugged(library).expand_pattern_stream({"plug.a": 1})
    next(stream)
    try:
        stream.close()
    except RuntimeError as error:
        told = str(error)
    stream.close()
    return told


def expand_singly(library: Library) -> object:
    """Expand by the compiler of single patterns."""
    return library.core__compiler.PatternCompiler().compile_patterns({"a.b": 1, "c": 2})


def load_rules(library: Library) -> object:
    """Load rules that are not there."""
    expander = library.core__pattern_expander.EnhancedPatternExpander()
    return expander.load_rules_from_config(Path("nowhere.json"))


def _chunked(chunk: Any) -> int:
    if "x" in chunk:
        msg = "no x"
        raise ValueError(msg)
    return len(chunk)


def _processor(library: Library) -> Any:
    streams = library.stream__processor
    processor = streams.StreamProcessor(
        library.stream__chunker.ChunkConfig(chunk_size=4, encoding="utf-8"), max_workers=2
    )
    processor.register_processor("length", _chunked)
    return processor


def stream_chunks(library: Library) -> object:
    """Process chunks, one of which fails without an exception."""
    processor = _processor(library)
    source = written("data.txt", "aaaaxxxxcc")
    by_file = list(processor.chunk_processor.process_file_chunks(str(source), "length"))
    by_text = list(processor.chunk_processor.process_chunks("aaaabb", "length"))
    processor.cleanup()
    return [(type(each), each) for each in (*by_file, *by_text)]


def stream_unregistered(library: Library) -> object:
    """Process chunks by what there is not."""
    processor = _processor(library)
    try:
        return list(processor.chunk_processor.process_chunks("aaaa", "nothing"))
    finally:
        processor.cleanup()


def stream_sync(library: Library) -> object:
    """Process a stream of documents."""
    processor = _processor(library)
    results = list(processor.process_stream_sync(iter(["aaaabb", "xx"]), "length", "it"))
    processor.cleanup()
    return results


def stream_sync_abandoned(library: Library) -> object:
    """Process a part of a stream."""
    processor = _processor(library)
    stream = processor.process_stream_sync(iter(["aaaabb", "xx"]), "length", "it")
    first = next(stream)
    stream.close()
    processor.cleanup()
    return first


async def _documents() -> AsyncIterator[str]:
    yield "aaaabb"
    yield "cc"


def stream_async(library: Library) -> object:
    """Process an asynchronous stream of documents, in a pool of threads."""
    processor = _processor(library)

    async def run() -> list[Any]:
        stream = processor.process_stream_async(_documents(), "length", "it")
        return [result async for result in stream]

    results = asyncio.run(run())
    processor.cleanup()
    return results


def stream_async_abandoned(library: Library) -> object:
    """Process a part of an asynchronous stream."""
    processor = _processor(library)

    async def run() -> Any:
        stream = processor.process_stream_async(_documents(), "length", "it")
        first = await anext(stream)
        await stream.aclose()
        return first

    first = asyncio.run(run())
    processor.cleanup()
    return first


def stream_parallel(library: Library) -> object:
    """Process documents side by side, one of which fails."""
    processor = _processor(library)
    results = processor.process_parallel(["aaaabb", "xx"], "length")
    processor.cleanup()
    return results


def chunk(library: Library) -> object:
    """Cut data in all ways."""
    chunkers = library.stream__chunker
    chunker = chunkers.Chunker(chunkers.ChunkConfig(chunk_size=2, overlap_size=1, encoding="utf-8"))
    return (
        list(chunker.chunk_file(written("data.txt", "abcde"))),
        list(chunker.chunk_iterable(iter(range(5)))),
        list(chunker.chunk_with_overlap("abc")),
    )


def search_index(library: Library) -> object:
    """Ask an index, and search in what it finds."""
    provider = library.index.resolve_provider("builtin:nothing")
    written("code/a.py", "needle = 1\n")
    provider.build()
    files = provider.changed_py("no-such-ref", ["code"], Path.cwd())
    found = library.index__content_search.search_content("needle", files, provider)
    return len(files), len(found), provider.search("needle", files)


def discover_plugins(library: Library) -> object:
    """Find and load plugins, one of which is broken, and one of which cannot be made."""
    written("plugins/good.py", GOOD_PLUGIN)
    written("plugins/broken.py", BROKEN_PLUGIN)
    written("plugins/raising.py", RAISING_PLUGIN)
    loader = library.plugins__loader.PluginLoader("of.nobody")
    found = sorted(each.name for each in loader.discover_plugins())
    results = {name: loader.load_plugin(name).success for name in (*found, "unknown")}
    return found, results, loader.reload_plugin("good").success, loader.unload_plugin("good")


def load_all_plugins(library: Library) -> object:
    """Load all plugins, of which there is one, that cannot be made."""
    written("plugins/raising.py", RAISING_PLUGIN)
    loader = library.plugins__loader.PluginLoader("of.nobody")
    loader.discover_plugins()
    return [each.success for each in loader.load_all_plugins()]


def manage_plugins(library: Library) -> object:
    """Have a manager load a plugin, which it never can."""
    written("plugins/good.py", GOOD_PLUGIN)
    manager = library.plugins__manager.EnhancedPluginManager(plugin_group="of.nobody")
    found = manager.discover_plugins()
    told = [
        manager.load_plugin("good"),
        manager.activate_plugin("good"),
        manager.deactivate_plugin("good"),
        manager.unload_plugin("good"),
    ]
    asyncio.run(manager.shutdown())
    return found, told


def register_plugins(library: Library) -> object:
    """Put plugins into the small registry."""
    namespace: dict[str, Any] = {}
    library.plugins__base  # noqa: B018 -- the plugin imports it
    exec(GOOD_PLUGIN, namespace)
    good = namespace["Good"]()
    refusing = namespace["Good"]()
    refusing.initialize = lambda: False
    registry = library.plugins__base.PluginManager()
    return registry.register_plugin(good), registry.register_plugin(refusing)


def convert(library: Library) -> object:
    """Convert, and fail to."""
    converter = library.json_processor__converter.FormatConverter()
    source = written("a.json", {"a": 1})
    results = [
        converter.convert('{"a": 1}', "json", "json"),
        converter.convert("{", "json", "json"),
        converter.convert_file(source, "b.json"),
        converter.convert_file("nowhere.json", "b.json"),
    ]
    return [(each.success, each.data) for each in results]


def query(library: Library) -> object:
    """Query documents, and change them."""
    paths = library.json_processor__jsonpath.JSONPathProcessor()
    data = {"services": {"web": 1, "api": 2}}
    results = [
        paths.query(data, "$.services.web"),
        paths.query(data, "not a path ["),
        paths.update(data, "$.services.web", 5),
        paths.delete(data, "$.services.api"),
    ]
    return [each.success for each in results], data, paths.aggregate(data, "$.services.web")


def validate(library: Library) -> object:
    """Validate what is valid, what is not, and what is not there."""
    validator = library.json_processor__validator.JSONValidator()
    source = written("a.json", {"version": "1"})
    results = [
        validator.validate({"a": 1}),
        validator.validate({"a": 1}, "unheard of"),
        validator.validate_file(source, "basic"),
        validator.validate_file("nowhere.json"),
    ]
    return [each.valid for each in results]


def command(library: Library) -> object:
    """Run commands."""
    commands = library.json_processor__commands
    document = {"a": 1}
    merged = asyncio.run(commands.JSONMergeCommand().execute(document, merge_data={"b": 2}))
    asyncio.run(commands.JSONPathCommand().execute(document))
    return merged


class _Doubling:
    key = "doubled"

    def materialize(self, model: dict[str, int], **params: Any) -> dict[str, int]:
        return {name: 2 * value for name, value in model.items()}


class _Adding:
    def run(self, model: dict[str, int]) -> dict[str, int]:
        return {**model, "added": 1}


def ask_kernel(library: Library) -> object:
    """Ask a kernel twice, of which the second time its cache answers."""
    kernel = library.kernel.Kernel(passes=[_Adding()])
    kernel.register_view(_Doubling())
    compiled = kernel.precompile({"a": 1})
    answers = [dict(kernel.query("doubled", {}, compiled)) for _ in range(2)]
    return answers, kernel.stats.hits


def ask_kernel_unknown(library: Library) -> object:
    """Ask a kernel for a view that it does not have."""
    kernel = library.kernel.Kernel()
    return kernel.query("nothing", {}, kernel.precompile({}))


_SETUP = ["ConfigCompiler.__init__", "  PluginConfigManager.__init__"]
_SETUP += ["  EnhancedPluginManager.__init__", "  EnhancedPluginManager.discover_plugins"]
_SETUP += ["    PluginLoader.discover_plugins"]
_STAGES = ["  ConfigCompiler._generate_provenance", "  ConfigCompiler._create_output_context"]
_STAGES += ["  TemplateEngine.render"]
_STREAM = "EnhancedPatternExpander.expand_pattern_stream"
_EXPANDED = [
    "  ConfigCompiler._extract_service_patterns",
    "  EnhancedPatternExpander.compile_to_static_mapping",
    f"    {_STREAM}",
]

#: Each with the names of its spans, indented below their parents, with ``!`` for an error.
SCENARIOS: dict[str, tuple[Scenario, list[str]]] = {
    "compile": (
        compile_config,
        [
            *_SETUP,
            "ConfigCompiler.compile_traffic_config",
            "  ConfigCompiler._load_file",
            "  ConfigCompiler._load_file",
            "  ConfigCompiler._setup_hierarchy_from_config",
            *_EXPANDED,
            *_STAGES,
        ],
    ),
    "compile by the function": (
        compile_by_function,
        [
            "compile_config",
            *(f"  {name}" for name in _SETUP),
            "  ConfigCompiler.compile_traffic_config",
            "    ConfigCompiler._load_file",
            *(f"  {name}" for name in (*_EXPANDED, *_STAGES)),
        ],
    ),
    "compile in chunks": (
        compile_large,
        [
            "ConfigCompiler.__init__",
            "ConfigCompiler.compile_large_config",
            "  ConfigCompiler._load_file",
            "  ConfigCompiler._extract_service_patterns",
            "  StreamingPatternProcessor.process_large_patterns",
            *[f"    {_STREAM}"] * 10,
            *_STAGES,
        ],
    ),
    "compile what is broken": (
        compile_broken_input,
        [
            "ConfigCompiler.__init__",
            "ConfigCompiler.compile_traffic_config !",
            "  ConfigCompiler._load_file !",
        ],
    ),
    "compile without a template": (
        compile_without_template,
        [
            "ConfigCompiler.__init__",
            "ConfigCompiler.compile_traffic_config !",
            "  ConfigCompiler._load_file",
            *_EXPANDED,
            *_STAGES[:-1],
            "  TemplateEngine.render !",
        ],
    ),
    "expand twice": (expand_twice, [_STREAM, _STREAM]),
    "abandon a stream": (expand_abandoned, [_STREAM]),
    "expand by a plugin": (
        expand_by_plugin,
        ["EnhancedPluginManager.__init__", "EnhancedPluginManager.activate_plugin", _STREAM],
    ),
    "abandon a plugin's stream": (
        expand_abandoned_in_plugin,
        ["EnhancedPluginManager.__init__", "EnhancedPluginManager.activate_plugin", _STREAM],
    ),
    "expand singly": (expand_singly, ["PatternCompiler.compile_patterns"]),
    "load no rules": (
        load_rules,
        ["EnhancedPatternExpander.load_rules_from_config !", "  PatternCompiler.load_config !"],
    ),
    "process chunks": (
        stream_chunks,
        [
            "ChunkProcessor.process_file_chunks !",
            "  Chunker.chunk_file",
            "ChunkProcessor.process_chunks",
            "StreamProcessor.cleanup",
        ],
    ),
    "process by nothing": (
        stream_unregistered,
        ["ChunkProcessor.process_chunks !", "StreamProcessor.cleanup"],
    ),
    "process a stream": (
        stream_sync,
        [
            "StreamProcessor.process_stream_sync !",
            "  ChunkProcessor.process_chunks",
            "  ChunkProcessor.process_chunks !",
            "StreamProcessor.cleanup",
        ],
    ),
    "abandon a stream of documents": (
        stream_sync_abandoned,
        [
            "StreamProcessor.process_stream_sync",
            "  ChunkProcessor.process_chunks",
            "StreamProcessor.cleanup",
        ],
    ),
    "process an asynchronous stream": (
        stream_async,
        [
            "StreamProcessor.process_stream_async",
            "  ChunkProcessor.process_chunks",
            "  ChunkProcessor.process_chunks",
            "StreamProcessor.cleanup",
        ],
    ),
    "abandon an asynchronous stream": (
        stream_async_abandoned,
        [
            "StreamProcessor.process_stream_async",
            "  ChunkProcessor.process_chunks",
            "StreamProcessor.cleanup",
        ],
    ),
    "cut": (
        chunk,
        ["Chunker.chunk_file", "Chunker.chunk_iterable", "Chunker.chunk_with_overlap"],
    ),
    "search an index": (
        search_index,
        [
            "resolve_provider",
            "Provider.build",
            "Provider.changed_py",
            "search_content",
            "Provider.search",
        ],
    ),
    "load plugins": (
        discover_plugins,
        [
            "PluginLoader.discover_plugins",
            "PluginLoader.load_plugin",
            "PluginLoader.load_plugin !",
            "PluginLoader.load_plugin !",
            "PluginLoader.reload_plugin",
            "  PluginLoader.unload_plugin",
            "  PluginLoader.load_plugin",
            "PluginLoader.unload_plugin",
        ],
    ),
    "load all plugins": (
        load_all_plugins,
        [
            "PluginLoader.discover_plugins",
            "PluginLoader.load_all_plugins !",
            "  PluginLoader.load_plugin !",
        ],
    ),
    "manage plugins": (
        manage_plugins,
        [
            "EnhancedPluginManager.__init__",
            "EnhancedPluginManager.discover_plugins",
            "  PluginLoader.discover_plugins",
            "EnhancedPluginManager.load_plugin !",
            "  PluginLoader.load_plugin",
            "EnhancedPluginManager.activate_plugin !",
            "EnhancedPluginManager.deactivate_plugin !",
            "EnhancedPluginManager.unload_plugin !",
            "EnhancedPluginManager.shutdown",
            "  EnhancedPluginManager.unload_plugin !",
        ],
    ),
    "register plugins": (
        register_plugins,
        ["PluginManager.register_plugin", "PluginManager.register_plugin !"],
    ),
    "convert": (
        convert,
        [
            "FormatConverter.convert",
            "FormatConverter.convert !",
            "FormatConverter.convert_file",
            "  FormatConverter.convert",
            "FormatConverter.convert_file !",
        ],
    ),
    "query": (
        query,
        [
            "JSONPathProcessor.query",
            "JSONPathProcessor.query !",
            "JSONPathProcessor.update",
            "JSONPathProcessor.delete",
            "JSONPathProcessor.aggregate",
            "  JSONPathProcessor.query",
        ],
    ),
    "validate": (
        validate,
        [
            "JSONValidator.validate",
            "JSONValidator.validate !",
            "JSONValidator.validate_file",
            "  JSONValidator.validate",
            "JSONValidator.validate_file !",
        ],
    ),
    "run commands": (command, ["JSONMergeCommand.execute", "JSONPathCommand.execute !"]),
    "ask the kernel": (
        ask_kernel,
        ["Kernel.precompile", "  Kernel._compile", "Kernel.query", "Kernel.query"],
    ),
    "ask the kernel for nothing": (
        ask_kernel_unknown,
        ["Kernel.precompile", "  Kernel._compile", "Kernel.query !"],
    ),
}
#: Of which the threads of a pool decide the order.
PARALLEL = (
    stream_parallel,
    [
        "  ChunkProcessor.process_chunks",
        "  ChunkProcessor.process_chunks !",
        "StreamProcessor.cleanup",
        "StreamProcessor.process_parallel !",
    ],
)
