"""`memory_limit`: by how much the process may grow in a block, a call, or a child process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from stratatrace.callsites import Options, describe_block, describe_function
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.guards.calling import limited
from stratatrace.guards.entering import Entrance
from stratatrace.guards.telling import tell_only
from stratatrace.measurement import Measurement
from stratatrace.sizes import parse_size
from stratatrace.wrapping import wrapped_member

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from stratatrace.errors import MemoryLimitExceeded
    from stratatrace.guards.isolation import Isolation
    from stratatrace.measurement import Callsite

__all__ = ["MemoryLimit", "memory_limit"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")


def memory_limit(
    limit: int | str,
    /,
    *,
    on_exceed: str | Callable[[MemoryLimitExceeded], object] = "raise",
    isolation: str | None = None,
    timeout: float | None = None,
    name: str | None = None,
) -> MemoryLimit:
    """Let this process grow by at most so much beyond its use at entry.

    As a context manager, sync and async, and as a decorator of functions, methods, coroutines,
    generators and async generators::

        with memory_limit("200MB"):
            rows = load(path)

        @memory_limit("1 GiB", isolation="process", timeout=60)
        def convert(path): ...

    What counts is the resident memory of the whole process, other threads included. The limit is
    looked at every 2 ms, and on Linux what is asked for at once is refused beyond the limit and 48
    MB (128 MB in all at least): within one call into C code it may be passed by that much. With
    *isolation* a child process is held to it whatever it does.

    Args:
        limit: Bytes, or text such as ``"200MB"`` or ``"64 KiB"``.
        on_exceed: ``"raise"``; ``"warn"``, which only tells of it; or a function that is called
            with the `MemoryLimitExceeded`, once, in a thread of its own. The last two refuse
            nothing.
        isolation: Run a decorated function in a child process: ``"process"`` chooses how, and
            ``"fork"``, ``"spawn"`` and ``"forkserver"`` say how.
        timeout: How many seconds an isolated call may take; None is for ever.
        name: What the callsite is called in telemetry; the function's name by default.

    Raises:
        InvalidTypeError: An argument is of the wrong type, or belongs to isolation.
        InvalidValueError: The size is not positive, or an option is not one of the known ones.
    """
    if callable(limit):
        msg = "memory_limit() wants a size before it decorates: write @memory_limit('200MB')"
        raise InvalidTypeError(msg)
    budget_bytes = parse_size(limit)
    soft = on_exceed != "raise"
    if isinstance(on_exceed, str) and on_exceed not in {"raise", "warn"}:
        msg = f"on_exceed is 'raise', 'warn' or a function, not {on_exceed!r}"
        raise InvalidValueError(msg)
    if not isinstance(on_exceed, str) and not callable(on_exceed):
        msg = f"on_exceed is 'raise', 'warn' or a function, not {on_exceed!r}"
        raise InvalidTypeError(msg)
    child = None if isolation is None else _isolation(budget_bytes, isolation, timeout, soft=soft)
    if child is None and timeout is not None:
        msg = "timeout is for isolation='process': nothing else can end a call for certain"
        raise InvalidTypeError(msg)
    call = on_exceed if callable(on_exceed) else tell_only if soft else None
    return MemoryLimit(budget_bytes, call, Options(name=name), child)


class MemoryLimit(Entrance):
    """What `memory_limit` returns: a context manager and a decorator."""

    def __init__(
        self,
        budget_bytes: int,
        on_exceed: Callable[[MemoryLimitExceeded], object] | None,
        options: Options,
        isolation: Isolation | None,
    ) -> None:
        super().__init__(budget_bytes, on_exceed)
        self._options = options
        self._isolation = isolation

    def __call__(self, target: F) -> F:
        """Decorate *target*.

        Raises:
            InvalidTypeError: It is not callable, or cannot be limited as it is.
        """
        if isinstance(target, type):
            msg = f"memory_limit() decorates functions and methods: decorate those of {target!r}"
            raise InvalidTypeError(msg)
        if not callable(target) and not isinstance(target, property | classmethod | staticmethod):
            msg = f"memory_limit() decorates functions and methods, and {target!r} is not callable"
            raise InvalidTypeError(msg)
        return cast("F", wrapped_member(target, self._limited))

    def run(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, Measurement]:
        """Call a function in a child process; return its result and the child's `Measurement`.

        Args:
            func: A function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            InvalidTypeError: This limit has no isolation, or *func* is no plain function.
            MemoryLimitExceeded: The child has grown too much.
            IsolationError: Something could not be sent or brought back, or the child died.
            Exception: Whatever the function raises.
        """
        if self._isolation is None:
            msg = "run() is for memory_limit(..., isolation='process'): call the function otherwise"
            raise InvalidTypeError(msg)
        if not callable(func):
            msg = f"run() takes a function and its arguments, and {func!r} is not callable"
            raise InvalidTypeError(msg)
        self._isolation.check(func)
        callsite = describe_function(func, self._options)
        result, measurement = self._isolation.run(func, args, kwargs, callsite)
        return result, measurement or Measurement(callsite=callsite)

    def describe(self, frame: FrameType) -> Callsite:
        """Return the callsite of a block that is entered in *frame*.

        Raises:
            InvalidTypeError: A block cannot be run in another process.
        """
        if self._isolation is not None:
            msg = "a block cannot be run in a process of its own: decorate a function, or use run()"
            raise InvalidTypeError(msg)
        module = frame.f_globals.get("__name__", "__main__")
        name = self._options.name
        return describe_block(module, frame.f_code, frame.f_lineno, name, None, None)

    def _limited(self, function: Callable[..., Any]) -> Callable[..., Any]:
        callsite = describe_function(function, self._options)
        if self._isolation is None:
            return limited(function, callsite, self._budget_bytes, self._on_exceed)
        self._isolation.check(function)
        return self._isolation.isolated(function, callsite)


def _isolation(
    budget_bytes: int, isolation: str, timeout: float | None, *, soft: bool
) -> Isolation:
    # Here and not above: few programs want it, and it takes multiprocessing.
    from stratatrace.guards.isolation import ISOLATIONS, Isolation  # noqa: PLC0415

    if isolation not in ISOLATIONS:
        names = ", ".join(map(repr, ISOLATIONS))
        msg = f"there is no isolation {isolation!r}: choose one of {names}"
        raise InvalidValueError(msg)
    if soft:
        msg = "on_exceed is for limits in this process: an isolated call that exceeds its is ended"
        raise InvalidTypeError(msg)
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            msg = f"timeout is a number of seconds, not {timeout!r}"
            raise InvalidTypeError(msg)
        if not 0 < timeout < math.inf:
            msg = f"timeout is a number of seconds greater than zero, and {timeout!r} is not"
            raise InvalidValueError(msg)
    return Isolation(budget_bytes, isolation, timeout)
