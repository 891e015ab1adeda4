"""`profile_memory` and `measure`: the public ways to have a call measured."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, cast, overload

from stratatrace.calls import begin_kept, misplaced
from stratatrace.callsites import Options, describe_block, describe_function
from stratatrace.errors import InvalidTypeError, InvalidValueError, NotReadyError
from stratatrace.measurement import Measurement
from stratatrace.wrapping import awaited, is_measured, kind_of, measured_member

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from stratatrace.calls import Call
    from stratatrace.measurement import AttributeValue, Callsite

__all__ = [
    "Block",
    "MemoryProfile",
    "likely_option",
    "measure",
    "profile_memory",
    "unknown_option",
]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = ("name", "attributes", "budget", "sample_ratio", "top", "methods")
_SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@overload
def profile_memory(target: F, /) -> F: ...
@overload
def profile_memory(
    target: str | None = None,
    /,
    *,
    name: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    budget: int | str | None = None,
    sample_ratio: float | None = None,
    top: int | None = None,
    methods: Iterable[str] | None = None,
) -> MemoryProfile: ...
def profile_memory(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    budget: int | str | None = None,
    sample_ratio: float | None = None,
    top: int | None = None,
    methods: Iterable[str] | None = None,
    **unknown: Never,
) -> Any:
    """Measure the memory of every call of a function, of a class's methods, or of a block.

    As a decorator, bare or called, of any callable (functions, coroutines, generators, async
    generators, methods, properties, classes), and as a context manager, sync and async::

        @profile_memory
        def load(): ...

        @profile_memory(budget="200MB", attributes={"team": "search"})
        async def index(): ...

        with profile_memory("merge") as block: ...
        print(block.measurement.heap_peak_bytes)

    Each call becomes a span with its numbers, and is added to the metrics. On a class its public
    methods are measured, and the class itself is returned. Whether other threads can be in the
    numbers is told by `Measurement.attribution`.

    Args:
        target: What to decorate, or the name of a block.
        name: Name of the span; the function's qualified name by default.
        attributes: Attributes of every span.
        budget: The heap peak that a call may reach: bytes, or text such as ``"200MB"``.
        sample_ratio: Share of the calls whose heap is traced, 0 to 1; the configuration's by
            default. Time and resident memory are measured on every call.
        top: How many lines the span tells of those that have allocated most of what the call
            keeps, 1 to 50. Of a sample of what is allocated, which this begins; by tracemalloc of
            all, in a pass over all traces at each end of a call.
        methods: On a class, the names of the methods to measure.
        **unknown: None; there to answer a misspelt option with the one that was meant.

    Raises:
        InvalidTypeError: The target is not callable, or an option does not exist.
        InvalidValueError: An option's value makes no sense.
    """
    if unknown:
        raise unknown_option(profile_memory, next(iter(unknown)), _OPTIONS)
    if isinstance(target, str):
        if name is not None:
            msg = f"profile_memory() was given two names, {target!r} and {name!r}: give one"
            raise InvalidTypeError(msg)
        target, name = None, target
    options = Options(
        name=name, attributes=attributes, budget=budget, sample_ratio=sample_ratio, top=top
    )
    profile = MemoryProfile(options, methods)
    return profile if target is None else profile(target)


class MemoryProfile:
    """What `profile_memory` returns when it is called: a decorator and a context manager.

    One object may decorate many functions. As a context manager it may be entered again, also
    before it was left, by the same thread or task.
    """

    def __init__(self, options: Options, methods: Iterable[str] | None = None) -> None:
        if isinstance(methods, str):
            msg = f"methods is a list of names: give methods=[{methods!r}]"
            raise InvalidTypeError(msg)
        self._options = options
        self._methods = None if methods is None else tuple(methods)
        self._entered: Block | None = None

    def __call__(self, target: F) -> F:
        """Decorate *target*.

        Raises:
            InvalidTypeError: It is not callable, or it cannot be measured as it is.
        """
        if isinstance(target, type):
            _measure_methods(target, self._options, self._methods)
            return target
        if self._methods is not None:
            msg = f"methods= is for classes, and {target!r} is none"
            raise InvalidTypeError(msg)
        if not callable(target) and not isinstance(target, property | classmethod | staticmethod):
            msg = (
                f"profile_memory decorates functions, methods and classes, and {target!r} is not "
                'callable: to measure a block write `with profile_memory("name"):`'
            )
            raise InvalidTypeError(msg)
        return cast("F", measured_member(target, partial(describe_function, options=self._options)))

    def __enter__(self) -> Block:
        """Begin to measure the block."""
        frame = sys._getframe(1)  # noqa: SLF001 -- documented; the block is described by its place
        return self._enter(frame, porous=_may_suspend(frame))

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End measuring; the block's exception goes on."""
        block = self._entered
        if block is None:
            frame = sys._getframe(1)  # noqa: SLF001 -- as in __enter__
            misplaced(self._described(frame), "end a block")
            return
        self._entered = block.outer
        block.end(error)

    def __aenter__(self) -> Coroutine[Any, Any, Block]:
        """Begin to measure the block."""
        # Not `async def`, so that the frame one up is the one that the block stands in.
        block = self._enter(sys._getframe(1), porous=True)  # noqa: SLF001 -- as in __enter__
        return _ready(block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End measuring; the block's exception goes on."""
        self.__exit__(kind, error, traceback)

    def _enter(self, frame: FrameType, *, porous: bool) -> Block:
        # Linked and not in a list, which would free its storage when the block is measured.
        self._entered = block = Block(self._described(frame), outer=self._entered)
        # The last, so that nothing here is charged.
        block.begin(self._options.attributes, porous=porous)
        return block

    def _described(self, frame: FrameType) -> Callsite:
        options = self._options
        return describe_block(
            frame.f_globals.get("__name__", "__main__"),
            frame.f_code,
            frame.f_lineno,
            options.name,
            options.budget_bytes,
            options.sample_ratio,
            options.top,
        )


class Block:
    """A ``with`` block that is, or was, measured."""

    __slots__ = ("_call", "_callsite", "_measurement", "outer")

    def __init__(self, callsite: Callsite, *, outer: Block | None) -> None:
        #: The block that the same context manager had been entered for before.
        self.outer = outer
        self._callsite = callsite
        self._call: Call | None = None
        self._measurement: Measurement | None = None

    @property
    def measurement(self) -> Measurement:
        """The numbers of the block, once it has ended; empty where measuring is off.

        Raises:
            NotReadyError: The block has not ended.
        """
        if self._measurement is None:
            msg = "the block has not ended: read `measurement` after the with statement"
            raise NotReadyError(msg)
        return self._measurement

    def begin(self, attributes: Mapping[str, AttributeValue], *, porous: bool) -> None:
        """Begin to measure; called once, when the block is entered."""
        self._call = begin_kept(self._callsite, attributes, porous=porous)

    def end(self, error: BaseException | None) -> None:
        """Take the numbers; called once, when the block is left."""
        call, self._call = self._call, None
        if call is not None:
            call.finish(error, keep=True)
            self._measurement = _kept(self._callsite, call)


@overload
def measure(  # type: ignore[overload-overlap] # a coroutine function is a function, too
    func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, tuple[R, Measurement]]: ...
@overload
def measure(
    func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> tuple[R, Measurement]: ...
def measure(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function once and return its result with its `Measurement`.

    The heap of this call is measured whatever the sample ratio says, and its span and metrics are
    emitted like any other's. Await the return value for a coroutine function.

    Args:
        func: A function or a coroutine function.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Raises:
        InvalidTypeError: It is not callable, or is a generator function, which works only when
            somebody iterates.
        Exception: Whatever the function raises.
    """
    if not callable(func):
        msg = f"measure() takes a function and its arguments, and {func!r} is not callable"
        raise InvalidTypeError(msg)
    kind = kind_of(func)
    if kind in {"generator", "async generator"}:
        msg = (
            f"{func!r} is a generator function, whose work is done where it is iterated: decorate "
            "it with profile_memory, or measure a function that iterates it"
        )
        raise InvalidTypeError(msg)
    callsite = describe_function(func, Options())
    if kind == "coroutine":
        return awaited(func(*args, **kwargs), callsite, then=partial(_kept, callsite))
    call = begin_kept(callsite, trace_heap=True)
    try:
        result = func(*args, **kwargs)
    except BaseException as error:
        call.finish(error)
        raise
    call.finish(keep=True)
    return result, _kept(callsite, call)


def _kept(callsite: Callsite, call: Call) -> Measurement:
    """Return what was measured; an empty Measurement where measuring is off."""
    return call.kept or Measurement(callsite=callsite)


def unknown_option(
    function: Callable[..., Any], given: str, known: Iterable[str]
) -> InvalidTypeError:
    """Return the error for an option that does not exist, with the likeliest one that does."""
    advice = likely_option(given, known)
    return InvalidTypeError(f"{function.__name__}() has no option {given!r}: {advice}")


def likely_option(given: str, known: Iterable[str]) -> str:
    """Return what to tell of an option that does not exist."""
    known = tuple(known)
    likely = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {likely[0]}?" if likely else f"it takes {', '.join(known)}"


def _measure_methods(owner: type, options: Options, methods: tuple[str, ...] | None) -> None:
    if methods is None:
        methods = tuple(name for name, member in vars(owner).items() if _is_public(name, member))
    members = {name: inspect.getattr_static(owner, name, None) for name in methods}
    for name, member in members.items():
        if member is None or not _is_measurable(member):
            msg = f"{owner.__qualname__} has no method {name!r} to measure"
            raise InvalidValueError(msg)
    for name, member in members.items():
        named = options if options.name is None else options.named(f"{options.name}.{name}")
        if not is_measured(member):
            setattr(owner, name, measured_member(member, partial(describe_function, options=named)))


def _is_public(name: str, member: object) -> bool:
    return (
        not name.startswith("_")
        and _is_measurable(member)
        and not isinstance(member, type | property)
    )


def _is_measurable(member: object) -> bool:
    return callable(member) or isinstance(member, classmethod | staticmethod | property)


def _may_suspend(frame: FrameType) -> bool:
    """Tell whether a block entered in *frame* can be suspended while other tasks run."""
    if frame.f_code.co_flags & _SUSPENDABLE:
        return True
    # Entered through a helper (ExitStack, for one): in an event loop it may be a coroutine's.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001


async def _ready(block: Block) -> Block:
    return block
