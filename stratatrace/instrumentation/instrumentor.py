"""`StratatraceInstrumentor`: what ``opentelemetry-instrument`` starts in a program, and can end."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from stratatrace.children import end_with_children
from stratatrace.config import Config
from stratatrace.errors import MissingExtraError, StratatraceError
from stratatrace.instrumentation.options import (
    OPTIONS,
    DeclaredOptions,
    option_named,
    options_of_environment,
)
from stratatrace.patching import PatchTable, profile_by_pattern
from stratatrace.processor import MemorySpanProcessor
from stratatrace.profile import unknown_option
from stratatrace.propagation import propagate_all
from stratatrace.recorder import Recorder, active

try:
    from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
        BaseInstrumentor,  # Its module is not checked for types.
    )
except ImportError as error:
    _feature = "StratatraceInstrumentor"
    raise MissingExtraError(_feature, "auto") from error

if TYPE_CHECKING:
    from collections.abc import Collection

    from stratatrace.patching import Pattern

__all__ = ["StratatraceInstrumentor"]

_logger = logging.getLogger("stratatrace")

# Of code alone: objects, and what is seldom said.
_PROVIDERS = ("tracer_provider", "meter_provider", "logger_provider")
_REST_OF_PROCESSOR = ("follow_tasks", "follow_threads")
_KNOWN = (*(option.name for option in OPTIONS), *_REST_OF_PROCESSOR, *_PROVIDERS)

# How long a worker's end may wait for what it has buffered.
_FLUSH_MILLISECONDS = 3000


class StratatraceInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # it has no types
    """Measures a program that does not know of it.

    ``opentelemetry-instrument python app.py`` calls `instrument` when the providers are there. By
    code it is ``StratatraceInstrumentor().instrument()``, after they were set. There is one of it
    in a process: a second `instrument` before the `uninstrument` does nothing.
    """

    #: OpenTelemetry's declarative configuration makes one of these of its file.
    configuration = DeclaredOptions

    # On the class: there is one object, whose __init__ runs whenever it is asked for.
    _undoing: ExitStack | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that this is for: none, it is for all programs."""
        return ()

    def _instrument(self, **options: Any) -> None:
        given = _checked(options)
        chosen = {**options_of_environment(), **given}
        try:
            with ExitStack() as undoing:  # What fails on its way leaves nothing behind.
                _measure(chosen, undoing)
                if chosen.get("propagate"):
                    _propagate(chosen, undoing)
                # After that: at its shutdown a processor puts executors back, and would find them
                # changed by others.
                if chosen.get("spans", True):
                    _measure_spans(chosen, undoing)
                if "profile" in chosen:
                    _profile(chosen["profile"], undoing)
                self._undoing = undoing.pop_all()
        except Exception as error:
            if given and isinstance(error, StratatraceError):
                raise
            _logger.warning("stratatrace could not instrument the program", exc_info=True)

    def _uninstrument(self, **_options: Any) -> None:
        undoing, self._undoing = self._undoing, None
        try:
            if undoing is not None:
                undoing.close()
        except Exception:
            _logger.warning("stratatrace could not put everything back", exc_info=True)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return what code has given, as it is used; None is not given."""
    checked = {}
    for name, value in options.items():
        if name not in _KNOWN:
            raise unknown_option(StratatraceInstrumentor.instrument, name, _KNOWN)
        option = option_named(name)
        if value is not None:
            checked[name] = value if option is None else option.checked(value)
    return checked


def _owned(chosen: dict[str, Any], owner: str) -> dict[str, Any]:
    return {o.name: chosen[o.name] for o in OPTIONS if o.owner == owner and o.name in chosen}


def _measure(chosen: dict[str, Any], undoing: ExitStack) -> None:
    """Start the recorder in force, or one that measures as it was said."""
    how = _owned(chosen, "Config")
    providers = {name: chosen[name] for name in _PROVIDERS if name in chosen}
    if active.configured and active.started:
        if how:
            _logger.warning(
                "stratatrace ignores %s of the instrumentor: configure() was called, and counts",
                ", ".join(how),
            )
        return
    own = Recorder(Config.at_run_time(**how), **providers) if how or providers else None
    undoing.callback(active.substitute(own))


def _measure_spans(chosen: dict[str, Any], undoing: ExitStack) -> None:
    provider: Any = chosen.get("tracer_provider") or trace.get_tracer_provider()
    if not callable(getattr(provider, "add_span_processor", None)):
        _logger.warning(
            "stratatrace measures no spans: %s takes no span processors. Set the SDK's "
            "TracerProvider before, or have it set by a distribution, such as the package "
            "opentelemetry-distro",
            type(provider).__name__,
        )
        return
    names = (*_owned(chosen, "MemorySpanProcessor"), *_REST_OF_PROCESSOR)
    processor = MemorySpanProcessor(**{name: chosen[name] for name in names if name in chosen})
    undoing.callback(_take_out, provider, processor)
    provider.add_span_processor(processor)


def _take_out(provider: Any, processor: MemorySpanProcessor) -> None:
    """Take a processor out of a provider, and switch it off.

    The SDK has no way to. Its processors of many, of which a provider has one, keep a tuple that
    they replace under a lock; in a provider that is made otherwise, one that is off stays behind.
    """
    many: Any = getattr(provider, "_active_span_processor", None)
    lock, present = getattr(many, "_lock", None), getattr(many, "_span_processors", None)
    if lock is not None and isinstance(present, tuple):
        with lock:
            rest = (one for one in many._span_processors if one is not processor)  # noqa: SLF001
            many._span_processors = tuple(rest)  # noqa: SLF001 -- feature by feature, as above
    processor.shutdown()


def _propagate(chosen: dict[str, Any], undoing: ExitStack) -> None:
    table = PatchTable()
    undoing.callback(table.undo)
    propagate_all(table)
    flush = _WorkerFlush(chosen.get("tracer_provider"))
    undoing.callback(flush.stop)
    end_with_children(flush, _WorkerFlush.flush)


class _WorkerFlush:
    """Has spans that a worker has ended sent before it ends: a pool's forked workers end at once.

    Not its metrics: what the application counts goes on from its parent's sums, and would be told
    twice.
    """

    def __init__(self, tracer_provider: Any) -> None:
        self._provider = tracer_provider
        self._on = True

    def flush(self) -> None:
        provider = self._provider or trace.get_tracer_provider()
        try:
            if self._on and hasattr(provider, "force_flush"):
                provider.force_flush(_FLUSH_MILLISECONDS)
        except Exception:
            _logger.warning("stratatrace: the spans of a worker may be lost", exc_info=True)

    def stop(self) -> None:
        """Do so no more."""
        self._on = False


def _profile(patterns: tuple[Pattern, ...], undoing: ExitStack) -> None:
    table = PatchTable()
    undoing.callback(table.undo)
    profile_by_pattern(patterns, script=_script_name(), table=table)
    complain = partial(_complain, patterns, os.getpid())
    if sys.argv[:1] != [
        "-c"
    ]:  # The helpers of multiprocessing are such, and import next to nothing.
        atexit.register(complain)
        undoing.callback(atexit.unregister, complain)


def _complain(patterns: tuple[Pattern, ...], process_id: int) -> None:
    for pattern in patterns if os.getpid() == process_id else ():
        if complaint := pattern.complaint():
            _logger.warning("stratatrace: the pattern %s", complaint)


def _script_name() -> str | None:
    """Return the name of the script's file, or of its module, as far as it is known already."""
    words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
    if sys.argv[:1] == ["-m"]:
        return words[-1].removeprefix("-m")
    return Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else None
