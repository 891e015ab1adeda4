"""`pooled`: a class whose construction borrows from a pool, and a factory function that does."""

from __future__ import annotations

import copyreg
import inspect
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakKeyDictionary

from stratatrace.errors import InvalidTypeError
from stratatrace.reuse.pool import Lease, MemoryPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["PoolDecorator", "PooledObject", "pooled"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


class PooledObject:
    """A base for pooled classes that has what `pooled` adds to one, for type checkers to see."""

    __slots__ = ()

    def close(self) -> None:
        """Give the object back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give the object back."""


class PoolDecorator:
    """What `pooled` returns when it is called with options."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(self, target: C, /) -> C: ...
    @overload
    def __call__(self, target: Callable[[], T], /) -> Callable[[], Lease[T]]: ...
    def __call__(self, target: Any, /) -> Any:
        """Decorate a class or a factory function.

        Raises:
            InvalidTypeError: It is neither, or an option is of the wrong type.
            InvalidValueError: An option's value makes no sense.
        """
        if isinstance(target, type):
            return _pool_class(target, self._options)
        pool: MemoryPool[Any] = MemoryPool(target, **self._options)

        def borrow() -> Lease[Any]:
            return pool.lease().borrow()

        update_wrapper(borrow, target)
        borrow.__stratatrace_pool__ = pool  # type: ignore[attr-defined] # functions take any
        return borrow


@overload
def pooled(target: C, /) -> C: ...
@overload
def pooled(target: Callable[[], T], /) -> Callable[[], Lease[T]]: ...
@overload
def pooled(
    *,
    initial_size: int = 0,
    max_size: int = 100,
    max_idle: int | None = None,
    max_age: float | None = None,
    reset: str | Callable[[Any], object] | None = "reset",
    validate: str | Callable[[Any], object] | None = None,
    dispose: str | Callable[[Any], object] | None = None,
    timeout: float | None = 30.0,
    shrink_under_pressure: bool = True,
    eager: bool = False,
    debug: bool = False,
    name: str | None = None,
) -> PoolDecorator: ...
def pooled(target: Any = None, /, **options: Any) -> Any:
    """Have the objects of a class, or of a factory function, come from a pool.

    A class stays what it is, but to construct it borrows an object, and ``close()``, or leaving a
    ``with`` block, gives it back. A function returns a `Lease`, which does the same::

        @pooled(max_size=20)
        class Matcher: ...

        with Matcher() as matcher: ...

        @pooled(max_size=4)
        def make_buffer() -> bytearray: ...

        with make_buffer() as buffer: ...

    Objects are made without arguments. Where a class has a ``close`` of its own, it is called when
    an object is thrown away. Subclasses are not pooled. `MemoryPool.of` has the pool.

    Args:
        target: A class, or a function without arguments.
        **options: Those of `MemoryPool`.

    Raises:
        InvalidTypeError: The target is neither, or an option is of the wrong type.
        InvalidValueError: An option's value makes no sense.
    """
    decorator = PoolDecorator(options)
    return decorator if target is None else decorator(target)


def _pool_class(owner: C, options: dict[str, Any]) -> C:
    """Have construction of *owner* borrow, and `close` and ``with`` give back."""
    if "__stratatrace_pool__" in vars(owner):
        msg = f"{owner.__qualname__} is pooled already"
        raise InvalidTypeError(msg)
    own_close = getattr(owner, "close", None)
    if own_close is not None and own_close is not PooledObject.close:
        options = {"dispose": own_close, **options}
    new, init = _new_of(owner), owner.__init__  # type: ignore[misc] # of this very class

    def make() -> Any:
        made = new(owner)
        init(made)
        return made

    update_wrapper(make, owner, updated=())
    pool: MemoryPool[Any] = MemoryPool(make, **options)
    _add_beginning(owner, pool, new, init)
    _add_ends(owner, pool)
    owner.__stratatrace_pool__ = pool  # type: ignore[attr-defined] # classes take any
    return owner


def _new_of(owner: Any) -> Callable[..., Any]:
    """Return the ``__new__`` of a class, which takes what the ``__init__`` takes."""
    new: Callable[..., Any] = owner.__new__
    if new is not object.__new__:
        return new
    return lambda cls, *_args, **_kwargs: new(cls)


def _add_beginning(
    owner: Any, pool: MemoryPool[Any], new: Callable[..., Any], init: Callable[..., Any]
) -> None:
    def construct(cls: type, *args: Any, **kwargs: Any) -> Any:
        if cls is not owner:
            return new(cls, *args, **kwargs)
        if args or kwargs:
            msg = (
                f"{owner.__qualname__} is pooled, and its objects are made without arguments: "
                "say what is different about one once it is borrowed"
            )
            raise InvalidTypeError(msg)
        return pool.acquire()

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not owner:  # Else it was, when it was made.
            init(self, *args, **kwargs)

    reduce_ex = owner.__reduce_ex__

    def reduce_bare(self: Any, protocol: Any) -> Any:
        reduced = reduce_ex(self, protocol)
        if isinstance(reduced, tuple) and reduced[0] is _new_object:
            return (_copy_of, *reduced[1:])
        return reduced

    construct.__name__ = "__new__"
    construct.__signature__ = _signature_of(owner)  # type: ignore[attr-defined] # functions take any
    owner.__new__ = construct
    owner.__init__ = update_wrapper(initialise, init)
    owner.__reduce_ex__ = reduce_bare
    _bare_new[owner] = new


def _signature_of(owner: type) -> inspect.Signature:
    """Return what a class is called with, after the class."""
    own = inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)
    try:
        signature = inspect.signature(owner)
    except (ValueError, TypeError):
        signature = inspect.Signature()
    return signature.replace(parameters=[own, *signature.parameters.values()])


# What copies and pickles begin with by default: `cls.__new__`, which would borrow.
_new_object = copyreg.__newobj__  # type: ignore[attr-defined] # it has no declaration
_bare_new: WeakKeyDictionary[type, Callable[..., Any]] = WeakKeyDictionary()


def _copy_of(cls: type, *args: Any) -> Any:
    """Begin a copy, or what is read from a pickle: an object that is of no pool."""
    return _bare_new.get(cls, cls.__new__)(cls, *args)


def _add_ends(owner: Any, pool: MemoryPool[Any]) -> None:
    own_close, own_enter = getattr(owner, "close", None), getattr(owner, "__enter__", None)
    own_exit = getattr(owner, "__exit__", None)

    def close(self: Any) -> None:
        """Give the object back to its pool; a second time does nothing."""
        if type(self) is owner:
            if pool.lease_number(self) is not None:
                pool.release(self)
        elif own_close is not None:
            own_close(self)

    def enter(self: Any) -> Any:
        entered = self if own_enter is None else own_enter(self)
        return pool.handle_of(self) if entered is self else entered

    def leave(self: Any, *error: Any) -> Any:
        lease = pool.lease_number(self)
        try:
            return None if own_exit is None else own_exit(self, *error)
        finally:
            # It may have closed itself, and be somebody else's by now.
            if lease is not None and pool.lease_number(self) == lease:
                close(self)

    for name, function in (("close", close), ("__enter__", enter), ("__exit__", leave)):
        function.__name__ = name
        function.__qualname__ = f"{owner.__qualname__}.{name}"
        setattr(owner, name, function)
