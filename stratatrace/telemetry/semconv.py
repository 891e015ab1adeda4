"""Every name and unit that stratatrace emits, once. `docs/semconv.md` is generated from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BUDGET_EXCEEDED_EVENT",
    "CACHE_ATTRIBUTES",
    "CACHE_METRICS",
    "FINDING_ATTRIBUTES",
    "FINDING_METRICS",
    "LOG_ATTRIBUTES",
    "METRICS",
    "MONITOR_ATTRIBUTES",
    "MONITOR_METRICS",
    "POOL_ATTRIBUTES",
    "POOL_METRICS",
    "SCOPE",
    "SPAN_ATTRIBUTES",
    "STORE_ATTRIBUTES",
    "STORE_METRICS",
    "STRATAREGULA_ATTRIBUTES",
    "STRATAREGULA_METRICS",
    "STRATAREGULA_METRIC_ATTRIBUTES",
    "Attribute",
    "Metric",
]

#: Name of the instrumentation scope of all spans, metrics and log records.
SCOPE = "stratatrace"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of spans or metrics."""

    name: str
    #: ``int``, ``double``, ``string`` or ``boolean``, as OTLP knows them; ``[]`` is a list of such.
    type: str
    brief: str
    #: The field of Measurement that it carries, where it carries one as it is.
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric."""

    name: str
    instrument: str
    unit: str
    brief: str


FUNCTION_NAME = Attribute("code.function.name", "string", "Fully qualified name of the function.")
FILE_PATH = Attribute("code.file.path", "string", "Source file of the function.")
LINE_NUMBER = Attribute("code.line.number", "int", "Line of the definition, from 1.")
ERROR_TYPE = Attribute(
    "error.type",
    "string",
    "Qualified name of the exception that ended the call; `failed_result` where it returned a "
    "value that says it has failed.",
    "error_type",
)
CALLSITE = Attribute(
    "stratatrace.callsite", "string", "The name that the user gave, where one was given."
)
BUDGET = Attribute("stratatrace.budget", "int", "Heap peak that the call may reach, in bytes.")
BUDGET_EXCEEDED = Attribute(
    "stratatrace.budget.exceeded", "boolean", "Whether the heap peak broke the budget."
)
BUDGET_UNTOLD = Attribute(
    "stratatrace.budget.untold",
    "int",
    "Calls of the callsite that broke the budget since its last log record, and have none.",
)
LIMIT_EXCEEDED = Attribute(
    "stratatrace.limit.exceeded",
    "boolean",
    "Whether a memory limit was exceeded that was entered in the span.",
)
LIMIT_BUDGET = Attribute(
    "stratatrace.limit.budget", "int", "By how much that limit let the process grow, in bytes."
)
LIMIT_USED = Attribute(
    "stratatrace.limit.used", "int", "By how much the process had grown when it was seen, in bytes."
)
GC_TIME = Attribute(
    "stratatrace.gc.time", "double", "Time of the garbage collector in the call, in seconds."
)

#: What a span carries of its call's numbers. A number that was not measured is absent.
MEASURED = (
    Attribute(
        "stratatrace.heap.net",
        "int",
        "Heap allocated minus freed by the call's own execution, in bytes; signed.",
        "heap_net_bytes",
    ),
    Attribute(
        "stratatrace.heap.peak",
        "int",
        "The highest that the heap stood above its level at entry, in bytes.",
        "heap_peak_bytes",
    ),
    Attribute(
        "stratatrace.heap.allocated",
        "int",
        "All bytes that the call allocated, where the probe counts them.",
        "heap_allocated_bytes",
    ),
    Attribute(
        "stratatrace.heap.allocations",
        "int",
        "Blocks that the call allocated, where the probe counts them.",
        "heap_allocations",
    ),
    Attribute(
        "stratatrace.rss.before",
        "int",
        "Resident memory of the process at entry, in bytes.",
        "rss_before_bytes",
    ),
    Attribute(
        "stratatrace.rss.net",
        "int",
        "Growth of the process's resident memory in the call, in bytes; signed.",
        "rss_net_bytes",
    ),
    Attribute(
        "stratatrace.rss.peak",
        "int",
        "Highest resident memory of the process in the call, in bytes; a level.",
        "rss_peak_bytes",
    ),
    Attribute(
        "stratatrace.rss.peak_method",
        "string",
        "`hwm`: exact, from the kernel; `sampled`; `lifetime`: an upper bound.",
        "rss_peak_method",
    ),
    Attribute(
        "stratatrace.gc.collections",
        "int",
        "Garbage collections that ran in the call.",
        "gc_collections",
    ),
    Attribute(
        "stratatrace.gc.reclaimed",
        "int",
        "Bytes that they freed; not credited to the call's net.",
        "gc_reclaimed_bytes",
    ),
    Attribute(
        "stratatrace.efficiency.score",
        "double",
        "0 (wasteful) to 100, by the configured scorer.",
        "efficiency_score",
    ),
    Attribute(
        "stratatrace.attribution",
        "string",
        "`exact`: only this call's execution is in the heap numbers; `process`: others may be.",
        "attribution",
    ),
    Attribute("stratatrace.probe", "string", "The probe that gave the heap numbers.", "probe"),
    Attribute(
        "stratatrace.sample.ratio",
        "double",
        "The probability with which the call was chosen to be measured, where that is below 1: "
        "it stands for one divided by this.",
        "sample_ratio",
    ),
    ERROR_TYPE,
)

TOP_LINES = Attribute(
    "stratatrace.lines.top",
    "string[]",
    "The lines that have allocated most of what the call keeps, as `file:line function`.",
)
TOP_BYTES = Attribute("stratatrace.lines.top_bytes", "int[]", "What each of them did, in bytes.")
TOP_ERRORS = Attribute(
    "stratatrace.lines.top_errors",
    "int[]",
    "What these are right to in 95 of 100 cases, in bytes; 0 where they are exact.",
)
PEAK_LINES = Attribute(
    "stratatrace.lines.peak",
    "string[]",
    "Likewise of what the call held when its heap stood highest.",
)
PEAK_BYTES = Attribute("stratatrace.lines.peak_bytes", "int[]", "What each of them did, in bytes.")
PEAK_ERRORS = Attribute(
    "stratatrace.lines.peak_errors",
    "int[]",
    "What these are right to in 95 of 100 cases, in bytes.",
)

#: What only the spans of calls carry whose lines are told.
OF_LINES = (TOP_LINES, TOP_BYTES, TOP_ERRORS, PEAK_LINES, PEAK_BYTES, PEAK_ERRORS)

STREAM_ITEMS = Attribute("stratatrace.stream.items", "int", "Items that a stream has delivered.")
STREAM_CHUNKS = Attribute("stratatrace.stream.chunks", "int", "Chunks that they were delivered in.")
STREAM_SPLITS = Attribute(
    "stratatrace.stream.splits", "int", "How often there was no memory for a chunk of a stream."
)
STREAM_LARGEST = Attribute(
    "stratatrace.stream.largest_chunk", "int", "What the items of the largest chunk took, in bytes."
)
STREAM_SOURCE = Attribute(
    "stratatrace.stream.weighed_by",
    "string",
    "What told how large the last items were: `native`, `tracemalloc`, or `sizes`, an estimate.",
)
CHUNK_ITEMS = Attribute("stratatrace.chunk.items", "int", "Items of a chunk of a stream.")
CHUNK_BYTES = Attribute("stratatrace.chunk.bytes", "int", "What they took, in bytes.")

#: What only the spans of streams and their chunks carry.
OF_STREAMS = (
    STREAM_ITEMS,
    STREAM_CHUNKS,
    STREAM_SPLITS,
    STREAM_LARGEST,
    STREAM_SOURCE,
    CHUNK_ITEMS,
    CHUNK_BYTES,
)

POOL_NAME = Attribute("stratatrace.pool.name", "string", "The name of the pool.")
POOL_WAIT = Attribute(
    "stratatrace.pool.wait", "double", "How long an object of a pool was waited for, in seconds."
)
POOL_CREATED = Attribute(
    "stratatrace.pool.object_created", "boolean", "Whether an object had to be made for the pool."
)

#: What only the spans carry in which a pool has an object made, or waited for.
OF_POOLS = (POOL_NAME, POOL_WAIT, POOL_CREATED)

SPAN_ATTRIBUTES = (
    FUNCTION_NAME,
    FILE_PATH,
    LINE_NUMBER,
    CALLSITE,
    BUDGET,
    *MEASURED[:-1],
    GC_TIME,
    BUDGET_EXCEEDED,
    ERROR_TYPE,
    LIMIT_EXCEEDED,
    LIMIT_BUDGET,
    LIMIT_USED,
    *OF_LINES,
    *OF_STREAMS,
    *OF_POOLS,
)

#: Name of the event that a log record tells of: a call has broken its budget.
BUDGET_EXCEEDED_EVENT = "stratatrace.budget.exceeded"

#: What that record carries: the attributes that the span of the call has, and this.
LOG_ATTRIBUTES = (BUDGET_UNTOLD,)

CALL_COUNT = Metric("stratatrace.call.count", "Counter", "{call}", "Calls that ended.")
CALL_TIME = Metric("stratatrace.call.time", "Counter", "s", "Wall time of the calls.")
HEAP_NET = Metric(
    "stratatrace.heap.net", "UpDownCounter", "By", "Sum of the calls' net heap; what they retain."
)
HEAP_ALLOCATED = Metric(
    "stratatrace.heap.allocated", "Counter", "By", "All bytes allocated, where they are counted."
)
HEAP_PEAK = Metric(
    "stratatrace.heap.peak", "Gauge", "By", "Highest heap peak of a call since the last collection."
)
RSS_PEAK = Metric(
    "stratatrace.rss.peak",
    "Gauge",
    "By",
    "Highest resident memory in a call since the last collection.",
)
SCORE = Metric(
    "stratatrace.efficiency.score",
    "Gauge",
    "1",
    "Mean score of the calls since the last collection.",
)
EXCEEDED = Metric(
    "stratatrace.budget.exceeded", "Counter", "{call}", "Calls whose heap peak broke their budget."
)
CALL_HEAP_PEAK = Metric(
    "stratatrace.call.heap.peak", "Histogram", "By", "Heap peaks of the calls that have a span."
)
CALL_RSS_PEAK = Metric(
    "stratatrace.call.rss.peak", "Histogram", "By", "RSS peaks of the calls that have a span."
)
SELF_ERRORS = Metric(
    "stratatrace.self.errors", "Counter", "{error}", "Failures inside stratatrace itself."
)
IRREGULARITY = Attribute(
    "stratatrace.span.irregularity",
    "string",
    "`ended_twice`; `ended_elsewhere`: by a thread other than its own, so its heap is said to be "
    "the process's; `ended_late`: after its thread or task, with its heap up to that; `full`: "
    "there was no room for all attributes; `names`: there were too many to remember this one; "
    "`aside`: span processors run in threads of their own, so it has no heap. Of irregular spans "
    "only.",
)
IRREGULAR_SPANS = Metric(
    "stratatrace.span.irregular",
    "Counter",
    "{span}",
    "Spans of other instrumentations that could not be measured as others are, by why.",
)
SELF_OVERHEAD = Metric(
    "stratatrace.self.overhead",
    "Gauge",
    "1",
    "Share of the wall time since the last collection that measuring has taken, where "
    "`max_overhead` is set.",
)
SAMPLE_RATIO = Metric(
    "stratatrace.sample.ratio",
    "Gauge",
    "1",
    "Share of the calls that are measured, of callsites of which some were left out.",
)
LIMITS_EXCEEDED = Metric(
    "stratatrace.limit.exceeded",
    "Counter",
    "{limit}",
    "Blocks and calls in which the process grew by more than their memory limit.",
)

METRICS = (
    CALL_COUNT,
    CALL_TIME,
    HEAP_NET,
    HEAP_ALLOCATED,
    HEAP_PEAK,
    RSS_PEAK,
    SCORE,
    EXCEEDED,
    CALL_HEAP_PEAK,
    CALL_RSS_PEAK,
    SELF_ERRORS,
    IRREGULAR_SPANS,
    SELF_OVERHEAD,
    SAMPLE_RATIO,
    LIMITS_EXCEEDED,
)

MONITOR_NAME = Attribute("stratatrace.monitor.name", "string", "The name of the monitor.")
MONITOR_ALERT = Attribute(
    "stratatrace.monitor.alert",
    "string",
    "`threshold`: use has crossed one; `rise`: it rises steadily. Of the alerts only.",
)

#: What the metrics and log records of a monitor carry.
MONITOR_ATTRIBUTES = (MONITOR_NAME, MONITOR_ALERT)

MONITOR_USED = Metric(
    "stratatrace.monitor.used",
    "Gauge",
    "By",
    "What the processes use; of a single process only where that is asked for.",
)
MONITOR_PEAK = Metric(
    "stratatrace.monitor.peak", "Gauge", "By", "The highest use since the monitor was started."
)
MONITOR_PROCESSES = Metric(
    "stratatrace.monitor.processes", "Gauge", "{process}", "Processes of the tree, where it is one."
)
MONITOR_LIMIT = Metric(
    "stratatrace.monitor.limit",
    "Gauge",
    "By",
    "What may be used: the monitor's own limit, or that of the fullest scope.",
)
MONITOR_UTILIZATION = Metric(
    "stratatrace.monitor.utilization", "Gauge", "1", "The share of that limit that is in use."
)
MONITOR_RISE = Metric(
    "stratatrace.monitor.rise", "Gauge", "By/s", "The rate of a steady rise, while there is one."
)
MONITOR_TIME_LEFT = Metric(
    "stratatrace.monitor.time_left",
    "Gauge",
    "s",
    "Until nothing is left, at the rate of a steady rise, while there is one.",
)
MONITOR_ALERTS = Metric(
    "stratatrace.monitor.alerts", "Counter", "{alert}", "Alerts of the monitor, by kind."
)

MONITOR_METRICS = (
    MONITOR_USED,
    MONITOR_PEAK,
    MONITOR_PROCESSES,
    MONITOR_LIMIT,
    MONITOR_UTILIZATION,
    MONITOR_RISE,
    MONITOR_TIME_LEFT,
    MONITOR_ALERTS,
)

STORE_NAME = Attribute("stratatrace.store.name", "string", "The name of the store.")

#: What the metrics of a compressed store carry.
STORE_ATTRIBUTES = (STORE_NAME,)

STORE_ENTRIES = Metric(
    "stratatrace.store.entries", "UpDownCounter", "{entry}", "Entries, in memory and on disk."
)
STORE_RAW = Metric(
    "stratatrace.store.raw", "UpDownCounter", "By", "What the values take when they are encoded."
)
STORE_STORED = Metric(
    "stratatrace.store.stored",
    "UpDownCounter",
    "By",
    "What they are kept in, in memory and on disk.",
)
STORE_SPILLED = Metric(
    "stratatrace.store.spilled", "UpDownCounter", "By", "How much of that is on disk."
)
STORE_RATIO = Metric(
    "stratatrace.store.ratio", "Gauge", "1", "How many times less is kept than the values take."
)

STORE_METRICS = (STORE_ENTRIES, STORE_RAW, STORE_STORED, STORE_SPILLED, STORE_RATIO)
CACHE_NAME = Attribute(
    "stratatrace.cache.name",
    "string",
    "The cache's name: the one that was given, or the function that made it.",
)
CACHE_EVICTION_REASON = Attribute(
    "stratatrace.cache.eviction.reason",
    "string",
    "`entries`, `bytes`: the bound that was reached; `expired`; `pressure`; `interrupted`: a "
    "change was not ended; `collected`: nobody used a weakly held value. Of evictions only.",
)

#: What the metrics of caches carry.
CACHE_ATTRIBUTES = (CACHE_NAME, CACHE_EVICTION_REASON)

CACHE_HITS = Metric(
    "stratatrace.cache.hits", "Counter", "{hit}", "Look-ups that found a value in the cache."
)
CACHE_MISSES = Metric("stratatrace.cache.misses", "Counter", "{miss}", "Look-ups that found none.")
CACHE_REFUSED = Metric(
    "stratatrace.cache.refused",
    "Counter",
    "{value}",
    "Values that were not kept because they are larger than the cache may be.",
)
CACHE_EVICTIONS = Metric(
    "stratatrace.cache.evictions", "Counter", "{eviction}", "Values that were dropped, by reason."
)
CACHE_ENTRIES = Metric(
    "stratatrace.cache.entries", "UpDownCounter", "{entry}", "Values that are held."
)
CACHE_SIZE = Metric(
    "stratatrace.cache.size", "UpDownCounter", "By", "What they take, where that is measured."
)

CACHE_METRICS = (
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_REFUSED,
    CACHE_EVICTIONS,
    CACHE_ENTRIES,
    CACHE_SIZE,
)
LAZY_COMPUTATIONS = Metric(
    "stratatrace.lazy.computations", "Counter", "{computation}", "Lazy values that were computed."
)
LAZY_EVICTIONS = Metric(
    "stratatrace.lazy.evictions",
    "Counter",
    "{value}",
    "Lazy values that were dropped because memory was short.",
)
LAZY_LIVE = Metric(
    "stratatrace.lazy.live",
    "UpDownCounter",
    "{value}",
    "Lazy values that are kept; not of those that are kept in the `__dict__` of their instances.",
)

LAZY_METRICS = (LAZY_COMPUTATIONS, LAZY_EVICTIONS, LAZY_LIVE)
POOL_STATE = Attribute(
    "stratatrace.pool.state", "string", "`idle` or `used`. Of the count of objects only."
)
POOL_REASON = Attribute(
    "stratatrace.pool.reason",
    "string",
    "Why objects were thrown away: `asked`, `closed`, `expired`, `forked`, `invalid`, `pressure` "
    "(memory ran short), `reset` (it raised) or `surplus`. Of the discarded only.",
)

#: What the metrics of a pool carry.
POOL_ATTRIBUTES = (POOL_NAME, POOL_STATE, POOL_REASON)

POOL_COUNT = Metric(
    "stratatrace.pool.count", "UpDownCounter", "{object}", "Objects of the pool, by state."
)
POOL_MAX = Metric(
    "stratatrace.pool.max", "UpDownCounter", "{object}", "The most objects that there may be."
)
POOL_IDLE_MAX = Metric(
    "stratatrace.pool.idle.max", "UpDownCounter", "{object}", "The most that are kept idle."
)
POOL_PENDING = Metric(
    "stratatrace.pool.pending_requests", "UpDownCounter", "{request}", "Requests that wait now."
)
POOL_TIMEOUTS = Metric(
    "stratatrace.pool.timeouts",
    "Counter",
    "{timeout}",
    "Requests that got no object in the time that they had.",
)
POOL_ABANDONED = Metric(
    "stratatrace.pool.abandoned",
    "Counter",
    "{request}",
    "Requests that were cancelled or interrupted while they waited.",
)
POOL_CREATE_TIME = Metric(
    "stratatrace.pool.create_time", "Histogram", "s", "How long it took to make an object."
)
POOL_WAIT_TIME = Metric(
    "stratatrace.pool.wait_time",
    "Histogram",
    "s",
    "How long an object was waited for, where none was to be had at once.",
)
POOL_USE_TIME = Metric(
    "stratatrace.pool.use_time", "Counter", "s", "How long objects were out that came back."
)
POOL_CREATED_OBJECTS = Metric(
    "stratatrace.pool.created", "Counter", "{object}", "Objects that the factory made."
)
POOL_REUSED = Metric(
    "stratatrace.pool.reused", "Counter", "{request}", "Requests that an object served once more."
)
POOL_DISCARDED = Metric(
    "stratatrace.pool.discarded", "Counter", "{object}", "Objects that were thrown away, by reason."
)
POOL_LEAKED = Metric(
    "stratatrace.pool.leaked",
    "Counter",
    "{object}",
    "Objects that were dropped by who had them, and not given back.",
)
POOL_SAVED = Metric(
    "stratatrace.pool.memory_saved",
    "Counter",
    "By",
    "About what would have been allocated for objects that were used again.",
)

POOL_METRICS = (
    POOL_COUNT,
    POOL_MAX,
    POOL_IDLE_MAX,
    POOL_PENDING,
    POOL_TIMEOUTS,
    POOL_ABANDONED,
    POOL_CREATE_TIME,
    POOL_WAIT_TIME,
    POOL_USE_TIME,
    POOL_CREATED_OBJECTS,
    POOL_REUSED,
    POOL_DISCARDED,
    POOL_LEAKED,
    POOL_SAVED,
)

STRATAREGULA_COMPONENT = Attribute(
    "stratatrace.strataregula.component",
    "string",
    "The part of strataregula: `compiler`, `expander`, `stream`, `index`, `plugins`, `json` or "
    "`kernel`.",
)
STRATAREGULA_PATTERNS = Attribute(
    "stratatrace.strataregula.patterns", "int", "Patterns that are to be expanded."
)
STRATAREGULA_EXPANSIONS = Attribute(
    "stratatrace.strataregula.expansions", "int", "What they were expanded to."
)
STRATAREGULA_CACHE_HITS = Attribute(
    "stratatrace.strataregula.cache.hits",
    "int",
    "Look-ups that found something in the expander's or the kernel's cache.",
)
STRATAREGULA_CACHE_MISSES = Attribute(
    "stratatrace.strataregula.cache.misses", "int", "Look-ups that found nothing there."
)
STRATAREGULA_INPUT_SIZE = Attribute(
    "stratatrace.strataregula.input.size", "int", "Size of the file that is read, in bytes."
)
STRATAREGULA_ENTRIES = Attribute(
    "stratatrace.strataregula.entries", "int", "Entries on the first level of what was read."
)
STRATAREGULA_OUTPUT_SIZE = Attribute(
    "stratatrace.strataregula.output.size", "int", "Characters of the text that was made."
)
STRATAREGULA_TEMPLATE = Attribute(
    "stratatrace.strataregula.template", "string", "Name of the template: the format of the output."
)
STRATAREGULA_ITEMS = Attribute(
    "stratatrace.strataregula.items", "int", "Documents that are processed side by side."
)
STRATAREGULA_CHUNKS = Attribute(
    "stratatrace.strataregula.chunks", "int", "Results of chunks that were delivered."
)
STRATAREGULA_ERRORS = Attribute(
    "stratatrace.strataregula.errors", "int", "Results that carry an error."
)
STRATAREGULA_PROVIDER = Attribute(
    "stratatrace.strataregula.index.provider", "string", "Name of the index's provider."
)
STRATAREGULA_FILES = Attribute(
    "stratatrace.strataregula.files", "int", "Files that are searched, or that were found."
)
STRATAREGULA_MATCHES = Attribute(
    "stratatrace.strataregula.matches", "int", "What a search or a query has found."
)
STRATAREGULA_PLUGIN = Attribute(
    "stratatrace.strataregula.plugin.name", "string", "Name of the plugin."
)
STRATAREGULA_PLUGINS = Attribute(
    "stratatrace.strataregula.plugins", "int", "Plugins that were found or loaded."
)
STRATAREGULA_FROM = Attribute(
    "stratatrace.strataregula.format.from", "string", "Name of the format that is read."
)
STRATAREGULA_TO = Attribute(
    "stratatrace.strataregula.format.to", "string", "Name of the format that is written."
)
STRATAREGULA_SCHEMA = Attribute(
    "stratatrace.strataregula.schema", "string", "Name of the schema that is validated by."
)
STRATAREGULA_VIEW = Attribute(
    "stratatrace.strataregula.view", "string", "Name of the view of the kernel that is asked for."
)
STRATAREGULA_PASSES = Attribute(
    "stratatrace.strataregula.passes", "int", "Passes that the kernel applies."
)

#: What only the spans of an instrumented strataregula carry.
STRATAREGULA_ATTRIBUTES = (
    STRATAREGULA_COMPONENT,
    STRATAREGULA_PATTERNS,
    STRATAREGULA_EXPANSIONS,
    STRATAREGULA_CACHE_HITS,
    STRATAREGULA_CACHE_MISSES,
    STRATAREGULA_INPUT_SIZE,
    STRATAREGULA_ENTRIES,
    STRATAREGULA_OUTPUT_SIZE,
    STRATAREGULA_TEMPLATE,
    STRATAREGULA_ITEMS,
    STRATAREGULA_CHUNKS,
    STRATAREGULA_ERRORS,
    STRATAREGULA_PROVIDER,
    STRATAREGULA_FILES,
    STRATAREGULA_MATCHES,
    STRATAREGULA_PLUGIN,
    STRATAREGULA_PLUGINS,
    STRATAREGULA_FROM,
    STRATAREGULA_TO,
    STRATAREGULA_SCHEMA,
    STRATAREGULA_VIEW,
    STRATAREGULA_PASSES,
)

STRATAREGULA_PATTERN_COUNT = Metric(
    "stratatrace.strataregula.patterns", "Counter", "{pattern}", "Patterns that were expanded."
)
STRATAREGULA_EXPANSION_COUNT = Metric(
    "stratatrace.strataregula.expansions",
    "Counter",
    "{expansion}",
    "What patterns were expanded to.",
)
STRATAREGULA_HIT_COUNT = Metric(
    "stratatrace.strataregula.cache.hits",
    "Counter",
    "{hit}",
    "Look-ups that found something in the expander's or the kernel's cache.",
)
STRATAREGULA_MISS_COUNT = Metric(
    "stratatrace.strataregula.cache.misses",
    "Counter",
    "{miss}",
    "Look-ups that found nothing there.",
)
STRATAREGULA_CHUNK_COUNT = Metric(
    "stratatrace.strataregula.chunks", "Counter", "{chunk}", "Results of chunks."
)
STRATAREGULA_ERROR_COUNT = Metric(
    "stratatrace.strataregula.errors", "Counter", "{error}", "Results that carry an error."
)
STRATAREGULA_PLUGIN_MEMORY = Metric(
    "stratatrace.strataregula.plugin.memory",
    "UpDownCounter",
    "By",
    "Heap that plugins keep of what loading them took, by name of the plugin.",
)

#: What their points carry: the component, and of plugins the name.
STRATAREGULA_METRIC_ATTRIBUTES = (STRATAREGULA_COMPONENT, STRATAREGULA_PLUGIN)
STRATAREGULA_METRICS = (
    STRATAREGULA_PATTERN_COUNT,
    STRATAREGULA_EXPANSION_COUNT,
    STRATAREGULA_HIT_COUNT,
    STRATAREGULA_MISS_COUNT,
    STRATAREGULA_CHUNK_COUNT,
    STRATAREGULA_ERROR_COUNT,
    STRATAREGULA_PLUGIN_MEMORY,
)

FINDING_KIND = Attribute(
    "stratatrace.finding.kind", "string", "What was found: `leak`, `cycles` or `growth`."
)
FINDING_NAME = Attribute(
    "stratatrace.finding.name",
    "string",
    "What was looked at: the name of a function, or the one that the user gave.",
)

GROWTH_BYTES = Attribute(
    "stratatrace.growth.bytes",
    "int",
    "By how much the memory grew that the program has allocated, in bytes.",
)
GROWTH_ERROR = Attribute(
    "stratatrace.growth.error",
    "int",
    "What that is right to, either way, in 95 of 100 cases, in bytes; 0 where it is exact.",
)
GROWTH_LINES = Attribute(
    "stratatrace.growth.lines",
    "string",
    "The lines that grew most, the first the most: each a line of text with its bytes.",
)
GROWTH_SOURCE = Attribute(
    "stratatrace.growth.source",
    "string",
    "What told it: `tracemalloc`, or `native`, a sample.",
)
LEAK_SLOPE = Attribute(
    "stratatrace.leak.slope", "double", "Heap that a call keeps for good, in bytes (By/{call})."
)
LEAK_P_VALUE = Attribute(
    "stratatrace.leak.p_value",
    "double",
    "The chance that a heap without a trend rises as much, at most.",
)
LEAK_ITERATIONS = Attribute(
    "stratatrace.leak.iterations", "int", "In how many calls, or rounds of a loop, it was seen."
)
LEAK_RATE = Attribute(
    "stratatrace.leak.rate", "double", "Heap that a process keeps for good, in By/s."
)
LEAK_TYPE = Attribute(
    "stratatrace.leak.type", "string", "The type of the objects that take most of it."
)
LEAK_LOCATION = Attribute(
    "stratatrace.leak.location", "string", "File and line that allocate most of it."
)
CYCLES_COUNT = Attribute(
    "stratatrace.cycles.count", "int", "Cycles that only the collector could free."
)
CYCLES_OBJECTS = Attribute(
    "stratatrace.cycles.objects", "int", "Objects in these cycles, and held by them."
)
CYCLES_BYTES = Attribute("stratatrace.cycles.bytes", "int", "Size of what they take, in bytes.")
CYCLES_PATH = Attribute(
    "stratatrace.cycles.path", "string", "Types and attributes of the cycles that take most."
)

#: What the log records of findings carry, and the first two the points of their metric.
FINDING_ATTRIBUTES = (
    *(FINDING_KIND, FINDING_NAME),
    *(GROWTH_BYTES, GROWTH_ERROR, GROWTH_LINES, GROWTH_SOURCE),
    LEAK_SLOPE,
    LEAK_P_VALUE,
    LEAK_ITERATIONS,
    LEAK_RATE,
    LEAK_TYPE,
    LEAK_LOCATION,
    CYCLES_COUNT,
    CYCLES_OBJECTS,
    CYCLES_BYTES,
    CYCLES_PATH,
)

FINDING_COUNT = Metric(
    "stratatrace.finding.count", "Counter", "{finding}", "What the finders have found."
)
FINDING_METRICS = (FINDING_COUNT,)

#: Bounds of the histograms of times, in seconds: 10 microseconds to 40 s, each four times the last.
TIME_BOUNDARIES = tuple(1e-5 * 4**power for power in range(12))

#: Bounds of the byte histograms: 1 KiB to 64 GiB, each four times the one before.
BYTE_BOUNDARIES = tuple(float(4**power) for power in range(5, 19))
