"""`cached`: a function that remembers its results in a `BoundedCache`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial, update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    NamedTuple,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from cachetools.keys import hashkey, typedkey

from stratatrace.callsites import Options, describe_function
from stratatrace.errors import InvalidTypeError
from stratatrace.profile import unknown_option
from stratatrace.reuse.cache_bounded import BoundedCache
from stratatrace.reuse.cache_options import (
    check_callable,
    check_functions,
    check_name,
    checked_bounds,
)
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from stratatrace.reuse.cache_stats import EvictionReason

__all__ = ["CacheInfo", "CachedFunction", "cached"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

_OPTIONS = (
    *("max_entries", "max_bytes", "ttl", "size_of", "on_evict", "shrink_under_pressure"),
    *("key", "typed", "name"),
)


class CacheInfo(NamedTuple):
    """What ``cache_info()`` returns, as that of `functools.lru_cache` does."""

    #: Calls that were answered from the cache, or by somebody who was computing the same.
    hits: int
    #: Calls that have computed.
    misses: int
    #: How many results it may hold; None is no bound.
    maxsize: int | None
    #: How many it holds.
    currsize: int


class CachedFunction(Protocol[P, R_co]):
    """A function under `cached`: the function itself, with these."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function that was decorated."""
        ...

    @property
    def cache(self) -> BoundedCache[Hashable, Any]:
        """Where its results are."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the result for these arguments."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> CachedFunction[P, R_co]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> Callable[Q, R]: ...

    def cache_info(self) -> CacheInfo:
        """Return hits and misses since the beginning, or since `cache_clear`, and the sizes."""
        ...

    def cache_clear(self) -> None:
        """Forget all results, also those that are being computed, and count from zero."""
        ...

    def cache_parameters(self) -> dict[str, object]:
        """Return the bounds, and whether types are told apart."""
        ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> Hashable:
        """Return the key that these arguments have in `cache`, to look it up or delete it."""
        ...


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...


def cached(
    function: Never = cast("Never", None),
    /,
    *,
    max_entries: int | None = None,
    max_bytes: int | str | None = None,
    ttl: float | None = None,
    size_of: Callable[[Any], int] | None = None,
    on_evict: Callable[[Any, Any, EvictionReason], object] | None = None,
    shrink_under_pressure: bool = True,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    name: str | None = None,
    **unknown: Never,
) -> _Decorator:
    """Have a function, or a coroutine function, remember its results in a `BoundedCache`.

    ::

        @cached(max_bytes="100MB", ttl=300)
        def render(page: str) -> bytes: ...

    Callers of the same arguments at the same time compute once: the others wait for it, and have
    its result, or the exception that it raises. Exceptions are not kept; a MemoryError, and what
    ends a thread or a task, are not shared either: the next one computes. A function may call
    itself. A result that is larger than the whole cache is returned, and not kept.

    The function has ``cache_info()``, ``cache_clear()`` and ``cache_parameters()`` as under
    `functools.lru_cache`, and ``cache``, the `BoundedCache` itself. As there, arguments must be
    hashable, and on a method the instance is one of them, which is kept alive.

    Args:
        function: None; there to answer those who leave out the brackets.
        max_entries: See `BoundedCache`.
        max_bytes: See `BoundedCache`; what the arguments take counts.
        ttl: See `BoundedCache`.
        size_of: See `BoundedCache`.
        on_evict: See `BoundedCache`.
        shrink_under_pressure: See `BoundedCache`.
        key: Makes the key of the arguments; all of them, by default.
        typed: Whether arguments of different types that are equal, as 1 and 1.0, differ.
        name: What it is called in the metrics; the function's qualified name by default.
        **unknown: None; there to answer a misspelt option with the one that was meant.

    Raises:
        InvalidTypeError: An argument is of the wrong type, there is no bound at all, or what is
            decorated cannot be cached.
        InvalidValueError: A bound makes no sense.
    """
    if unknown:
        raise unknown_option(cached, next(iter(unknown)), _OPTIONS)
    if function is not None:
        msg = "cached needs a bound: write @cached(max_entries=1000), or max_bytes="
        raise InvalidTypeError(msg)
    check_callable("key", key, "the function's arguments and returns a key")
    # Told here, and not where it decorates.
    checked_bounds(max_entries, max_bytes, ttl)
    check_functions(size_of, on_evict)
    check_name(name)
    make_key = key or (typedkey if typed else hashkey)
    new_cache = partial(
        BoundedCache[Hashable, Any],
        max_entries=max_entries,
        max_bytes=max_bytes,
        ttl=ttl,
        size_of=size_of,
        on_evict=on_evict,
        shrink_under_pressure=shrink_under_pressure,
    )
    parameters: dict[str, object] = {
        "max_entries": max_entries,
        "max_bytes": max_bytes,
        "ttl": ttl,
        "typed": typed,
    }

    def decorate(decorated: Callable[P, R]) -> CachedFunction[P, R]:
        _check_function(decorated)
        given = name or describe_function(decorated, Options()).function
        cache = new_cache(name=given)
        call: Any = _call(decorated, cache, make_key)
        update_wrapper(call, decorated)
        _add_controls(call, cache, make_key, parameters)
        return cast("CachedFunction[P, R]", call)

    return decorate


def _check_function(function: object) -> None:
    if isinstance(function, classmethod | staticmethod | property):
        kind = type(function).__name__
        msg = f"cached goes below @{kind}: it caches the function that {kind} is given"
        raise InvalidTypeError(msg)
    if isinstance(function, type) or not callable(function):
        msg = f"cached decorates functions and coroutine functions, not {function!r}"
        raise InvalidTypeError(msg)
    kind = kind_of(function)
    if kind in {"generator", "async generator"}:
        a = "an" if kind[0] == "a" else "a"
        msg = f"{function!r} is {a} {kind}, which can be used only once: cache a list of its items"
        raise InvalidTypeError(msg)


def _call(
    function: Callable[..., Any],
    cache: BoundedCache[Hashable, Any],
    make_key: Callable[..., Hashable],
) -> Callable[..., Any]:
    """Return what is called in place of *function*."""
    if kind_of(function) == "coroutine":
        get_async = cache.get_or_create_async

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await get_async(make_key(*args, **kwargs), partial(function, *args, **kwargs))

        return call_async
    get = cache.get_or_create

    def call(*args: Any, **kwargs: Any) -> Any:
        return get(make_key(*args, **kwargs), partial(function, *args, **kwargs))

    return call


def _add_controls(
    call: Any,
    cache: BoundedCache[Hashable, Any],
    make_key: Callable[..., Hashable],
    parameters: dict[str, object],
) -> None:
    begun = [0, 0]

    def cache_info() -> CacheInfo:
        stats = cache.stats()
        return CacheInfo(
            stats.hits - begun[0],
            stats.misses - begun[1],
            cast("int | None", parameters["max_entries"]),
            stats.entries,
        )

    def cache_clear() -> None:
        cache.clear()
        stats = cache.stats()
        begun[:] = stats.hits, stats.misses  # The metrics go on.

    call.cache = cache
    call.cache_info = cache_info
    call.cache_clear = cache_clear
    call.cache_parameters = parameters.copy
    call.cache_key = make_key
