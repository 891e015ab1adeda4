"""The current trace, carried to where its work goes on: another process, or another thread."""

from __future__ import annotations

import functools
import logging
import pickle
import threading
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from opentelemetry import context

from stratatrace.configure import install
from stratatrace.errors import InvalidTypeError
from stratatrace.recorder import active
from stratatrace.wrapping import kind_of, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import ModuleType

    from opentelemetry.context import Context

    from stratatrace.config import Config
    from stratatrace.patching import PatchTable
    from stratatrace.typing import Pipeline

__all__ = ["carrying", "propagate", "propagate_all"]

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Executor)

_logger = logging.getLogger("stratatrace")

# Threads of one worker must not set it up side by side.
_setting_up = threading.Lock()


# Of the standard library's own, by the module that each is in.
_EXECUTORS = {
    "concurrent.futures.thread": "ThreadPoolExecutor",
    "concurrent.futures.process": "ProcessPoolExecutor",
}


@overload
def propagate(func: E, /) -> E: ...
@overload
def propagate(func: Callable[P, R], /) -> Callable[P, R]: ...
def propagate(func: Callable[..., Any] | Executor, /) -> Callable[..., Any] | Executor:
    """Return *func* for a worker, where its spans join the trace that is current here.

    ``pool.submit(propagate(work), item)``, and likewise for every executor, `multiprocessing` pool,
    ``Process(target=...)`` or thread. The result can be pickled where *func* can, and be called any
    number of times, in any number of workers at once.

    ``pool = propagate(ThreadPoolExecutor())`` is that for every task of an executor: each carries
    what is current when it is submitted, by `submit`, `map` or ``loop.run_in_executor``.

    It takes along the current OpenTelemetry context, baggage included, as the global propagators
    write it, and to a process that was started anew (``spawn``, ``forkserver``) also how measuring
    is configured here: a worker that has not called `configure` itself measures and exports as this
    process does, but for `sinks`. Providers of the application's own are never taken along: its
    workers set up theirs, as they do for every other instrumentation.

    Args:
        func: What the worker calls; decorate it, or what it calls, to have it measured. Or an
            executor, which is returned itself.

    Raises:
        InvalidTypeError: It is not callable, or a coroutine function or generator function, whose
            work is not done when it returns; or an executor that does not let its `submit` be
            replaced.
    """
    if isinstance(func, Executor):
        return _carrying(func)
    if not callable(func):
        msg = f"propagate() takes a function for a worker to call, not {func!r}"
        raise InvalidTypeError(msg)
    kind = kind_of(func)
    if kind != "function":
        msg = (
            "propagate() takes a function whose work is done when it returns, and that of "
            f"{func!r} ({kind}) is not: propagate the function that runs it in the worker"
        )
        raise InvalidTypeError(msg)
    return _Propagated(func, context.get_current())


def propagate_all(table: PatchTable) -> None:
    """Have every task of the standard library's executors carry its trace, until *table* is undone.

    Those that are made already are among them, and all classes that inherit their `submit`.

    Args:
        table: What was replaced, and by it when to stop.
    """

    def patch(module: ModuleType) -> None:
        executor = getattr(module, _EXECUTORS[module.__name__])
        if table.open:
            table.replace(executor, "submit", _carrying_method(executor.submit, table))

    for name in _EXECUTORS:  # None is imported for it: that of processes is dear.
        when_imported(name, patch)


def _carrying(executor: E) -> E:
    if not isinstance(executor.submit, _Submit):
        try:
            executor.submit = _Submit(executor.submit)  # type: ignore[method-assign]  # this one's
        except AttributeError as error:
            msg = (
                f"the tasks of {executor!r} cannot carry their traces, as its submit cannot be "
                "replaced: propagate each function that it is given"
            )
            raise InvalidTypeError(msg) from error
    return executor


class _Submit:
    """The `submit` of one executor whose tasks carry their traces."""

    def __init__(self, submit: Callable[..., Future[Any]]) -> None:
        functools.update_wrapper(self, submit, updated=())
        self._submit = submit

    def __call__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._submit(_carried(fn), *args, **kwargs)


def _carrying_method(
    submit: Callable[..., Future[Any]], table: PatchTable
) -> Callable[..., Future[Any]]:
    @functools.wraps(submit)
    def carrying(
        self: Executor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        # It may be kept by somebody else who has replaced it.
        return submit(self, _carried(fn) if table.open else fn, *args, **kwargs)

    return carrying


def _carried(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a task with what is current here; what it makes of being called is its own affair."""
    if isinstance(func, _Propagated):
        return func  # Somebody has said already what it belongs to.
    try:
        return _Propagated(func, context.get_current())
    except Exception:
        _logger.warning("stratatrace: a task does not carry its trace", exc_info=True)
        return func


class _Propagated(Generic[P, R]):
    """A function, and the trace that its calls belong to.

    Args:
        func: The function.
        current: The context of its calls; None outside of the process that it was made in, and of
            those that are forked from that.
        carrier: What stands for it there.
        setup: How to measure there.
    """

    def __init__(
        self,
        func: Callable[P, R],
        current: Context | None,
        carrier: dict[str, str] | None = None,
        setup: bytes | None = None,
    ) -> None:
        functools.update_wrapper(self, func, updated=())
        self.__wrapped__ = func
        self._context = current
        self._carrier = carrier or {}
        self._setup = setup

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._setup is not None and not active.configured:
            with _setting_up:
                if not active.configured:
                    _set_up(self._setup)
        current = self._context if self._context is not None else _extracted(self._carrier)
        token = context.attach(current)
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            context.detach(token)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the function as it is pickled alone, and in place of the context what says it.

        A context holds the span itself, which belongs to this process.
        """
        carrier = self._carrier if self._context is None else _injected(self._context)
        return type(self), (self.__wrapped__, None, carrier, self._setup or _setup_here())


def _injected(current: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    try:
        # Here and not above: it looks for what is installed, and fails where that is not there.
        from opentelemetry import propagate as propagators  # noqa: PLC0415

        propagators.inject(carrier, current)
    except Exception:
        _logger.warning("stratatrace: the trace is not carried to workers", exc_info=True)
    return carrier


def carrying(executor: type[E]) -> type[E]:
    """Return a subclass of an executor whose work joins the trace of who submits it.

    For a library whose own executor it is; see `propagate` for what is carried.
    """

    def submit(self: Any, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = executor.submit(self, _carried(fn), *args, **kwargs)
        return future

    kept = ("__module__", "__qualname__", "__doc__")
    names = {name: getattr(executor, name) for name in kept}
    return cast("type[E]", type(executor.__name__, (executor,), {**names, "submit": submit}))


def _extracted(carrier: dict[str, str]) -> Context:
    try:
        from opentelemetry import propagate as propagators  # noqa: PLC0415 -- as above

        return propagators.extract(carrier)
    except Exception:
        _logger.warning("stratatrace: the trace does not reach this worker", exc_info=True)
        return context.get_current()


def _setup_here() -> bytes | None:
    """Return how this process measures, for one that has to be told; None where nobody has said."""
    if not (active.configured and active.started):
        return None
    recorder = active.recorder
    pipeline = recorder.pipeline
    try:
        return pickle.dumps((recorder.config, pipeline and pipeline.elsewhere()))
    except Exception:  # A scorer of the user's own may be anything.
        _logger.warning("stratatrace: workers do not measure as this process does", exc_info=True)
        return None


def _set_up(setup: bytes) -> None:
    """Measure as the process does that `_setup_here` was called in."""
    try:
        config, remake = cast(
            "tuple[Config, Callable[[], Pipeline | None] | None]",
            pickle.loads(setup),  # noqa: S301 -- it came with a pickle that was trusted
        )
        install(config, remake() if remake is not None else None)
    except Exception:
        active.configured = True  # Once is enough.
        _logger.warning("stratatrace is not set up in this worker", exc_info=True)
