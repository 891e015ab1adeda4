"""The current trace, carried to where its work goes on: another process, or another thread."""

from __future__ import annotations

import functools
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from opentelemetry import context

from stratatrace.configure import install
from stratatrace.errors import InvalidTypeError
from stratatrace.recorder import active
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from opentelemetry.context import Context

    from stratatrace.config import Config
    from stratatrace.typing import Pipeline

__all__ = ["carrying", "propagate"]

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound="Executor")

_logger = logging.getLogger("stratatrace")

# Threads of one worker must not set it up side by side.
_setting_up = threading.Lock()


def propagate(func: Callable[P, R], /) -> Callable[P, R]:
    """Return *func* for a worker, where its spans join the trace that is current here.

    ``pool.submit(propagate(work), item)``, and likewise for every executor, `multiprocessing` pool,
    ``Process(target=...)`` or thread. The result can be pickled where *func* can, and be called any
    number of times, in any number of workers at once.

    It takes along the current OpenTelemetry context, baggage included, as the global propagators
    write it, and to a process that was started anew (``spawn``, ``forkserver``) also how measuring
    is configured here: a worker that has not called `configure` itself measures and exports as this
    process does, but for `sinks`. Providers of the application's own are never taken along: its
    workers set up theirs, as they do for every other instrumentation.

    Args:
        func: What the worker calls; decorate it, or what it calls, to have it measured.

    Raises:
        InvalidTypeError: It is not callable, or a coroutine function or generator function, whose
            work is not done when it returns.
    """
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
    return _Propagated(func)


class _Propagated(Generic[P, R]):
    """A function, and the trace that its calls belong to."""

    def __init__(self, func: Callable[P, R]) -> None:
        functools.update_wrapper(self, func, updated=())
        self.__wrapped__ = func
        #: Only in this process, and in those that are forked from it.
        self._context: Context | None = context.get_current()
        self._carrier: dict[str, str] = {}
        self._setup: bytes | None = None
        try:
            # Here and not above: it looks for what is installed, and fails where that is not there.
            from opentelemetry import propagate as propagators  # noqa: PLC0415

            propagators.inject(self._carrier)
        except Exception:
            _logger.warning("stratatrace: the trace is not carried to workers", exc_info=True)

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

    def __getstate__(self) -> dict[str, Any]:
        # A context holds the span itself, which belongs to this process.
        return {**self.__dict__, "_context": None, "_setup": self._setup or _setup_here()}


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


def _carried(func: Callable[P, R]) -> Callable[P, R]:
    try:
        return propagate(func)
    except Exception:  # What cannot be propagated is the executor's to refuse.
        return func


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
