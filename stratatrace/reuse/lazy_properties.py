"""Lazy values of instances: the descriptors that stand for them in the class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from stratatrace.errors import InvalidTypeError
from stratatrace.reuse.lazy_awaiting import Awaited, awaited_once, disown_task
from stratatrace.reuse.lazy_homes import InDict, SideTable
from stratatrace.reuse.lazy_once import disown_computation, once
from stratatrace.reuse.lazy_recipe import MISSING, LazyOptions, Recipe, Sought
from stratatrace.wrapping import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from stratatrace.reuse.lazy_recipe import Home

__all__ = ["KeptAside", "LazyProperty"]

T = TypeVar("T")


class LazyProperty(Generic[T]):
    """What `lazy` makes of a method: a property that is computed when it is first read.

    Read on the class, it is this object. Where the instance has a ``__dict__`` the value is stored
    there, under the attribute's name, and reading it again is reading any attribute: assigning
    replaces it, ``del`` has it computed anew.

    Args:
        recipe: What is computed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._name: str | None = None
        self._compute: Callable[[Any], Any] = measured(recipe.function, recipe.callsite)
        #: Where the instance's own namespace cannot have it.
        self._aside = SideTable(recipe)
        self.__doc__ = getattr(recipe.function, "__doc__", None)
        self.__module__ = getattr(recipe.function, "__module__", __name__)
        self.__name__: str = getattr(recipe.function, "__name__", recipe.callsite.name)
        self.__isabstractmethod__ = bool(getattr(recipe.function, "__isabstractmethod__", False))

    @property
    def __wrapped__(self) -> Callable[[Any], Any]:
        """The method."""
        return self._recipe.function

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name, and whether instances of *owner* can keep a value.

        Raises:
            InvalidTypeError: They cannot, or this has another name already.
        """
        if self._name not in {None, name}:
            msg = (
                f"{self._recipe.title} is {self._name!r} already, and cannot be {name!r} too: "
                "decorate the method for each name"
            )
            raise InvalidTypeError(msg)
        self._name = name
        has_dict, has_weakref = bool(owner.__dictoffset__), bool(owner.__weakrefoffset__)
        if not (has_dict or has_weakref or owner.__basicsize__ > object.__basicsize__):
            return  # A mixin without storage of its own: its subclasses will tell.
        if not (has_weakref or (self._in_dict and has_dict)):
            raise self._homeless(owner)
        if self._in_dict and not has_dict:
            aside = KeptAside[T](self._recipe)
            setattr(owner, name, aside)
            aside.__set_name__(owner, name)

    if TYPE_CHECKING:
        # What an instance's own namespace does at run time, for type checkers to see.
        def __set__(self, instance: Any, value: T) -> None: ...
        def __delete__(self, instance: Any) -> None: ...

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value; called only where the instance's namespace does not have it."""
        return self if instance is None else self._first(instance)

    def is_computed(self, instance: object) -> bool:
        """Tell whether there is a value, without computing one."""
        return self._home_of(instance).read(instance) is not MISSING

    def reset(self, instance: object) -> None:
        """Drop the value, where there is one: it is computed when it is read again.

        What ``del`` does, and more: it works on frozen instances, and a value that is being
        computed in another thread is kept by nobody.
        """
        self._disown(instance)
        home = self._home_of(instance)
        if isinstance(home, InDict):
            vars(instance).pop(self._attribute, None)
        else:
            self._aside.drop(instance)
        self._forget_inherited(instance)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as what it is made from: values and those who wait stay here."""
        return _again, (type(self), self._recipe.function, self._recipe.options, self._name)

    def __repr__(self) -> str:
        return f"<lazy property {self._recipe.title}>"

    @property
    def _in_dict(self) -> bool:
        """Whether a value is kept in an instance's ``__dict__``, where there is one."""
        return True

    @property
    def _attribute(self) -> str:
        if self._name is None:
            msg = (
                f"{self._recipe.title} does not know its name: decorate the method in the body of "
                "its class (that of a NamedTuple cannot keep values)"
            )
            raise InvalidTypeError(msg)
        return self._name

    def _first(self, instance: Any) -> Any:
        home = self._home_of(instance)
        if self._recipe.is_coroutine:
            return LazyAwaitable(partial(self._awaited, home, instance))
        value = home.read(instance)
        if value is not MISSING:
            return value
        return once(self._sought(home, instance))

    def _awaited(self, home: Home, instance: Any) -> Coroutine[Any, Any, Any]:
        return awaited_once(self._sought(home, instance))

    def _sought(self, home: Home, instance: Any) -> Sought:
        key = (id(self), id(instance))
        return Sought(self._recipe, key, home, instance, self._compute_anew)

    def _compute_anew(self, instance: Any) -> Any:
        self._forget_inherited(instance)
        return self._compute(instance)

    def _home_of(self, instance: Any) -> Home:
        name = self._attribute
        if self._in_dict:
            namespace = getattr(instance, "__dict__", None)
            # Asked by super() for what a subclass has overridden, whose value is there.
            if isinstance(namespace, dict) and self._found_in(type(instance)):
                return _home(self._recipe, namespace, name)
        if not type(instance).__weakrefoffset__:
            if self._in_dict and type(instance).__dictoffset__:
                return _Nowhere()
            raise self._homeless(type(instance))
        return self._aside

    def _found_in(self, owner: type) -> bool:
        name = self._attribute
        for each in owner.__mro__:
            if name in each.__dict__:
                return each.__dict__[name] is self
        return False

    def _forget_inherited(self, instance: Any) -> None:
        """Have what this value is computed from, by super(), computed anew with it."""
        name, passed = self._attribute, False
        for owner in type(instance).__mro__:
            found = owner.__dict__.get(name)
            if passed and isinstance(found, LazyProperty):
                found._aside.drop(instance)  # noqa: SLF001 -- another of this class
            passed = passed or found is self

    def _disown(self, instance: object) -> None:
        key = (id(self), id(instance))
        if self._recipe.is_coroutine:
            disown_task(key)
        else:
            disown_computation(key)

    def _homeless(self, owner: type) -> InvalidTypeError:
        place = "a __weakref__" if not self._in_dict else "a __dict__ or a __weakref__"
        return InvalidTypeError(
            f"{self._recipe.title} is lazy, and an instance of {owner.__qualname__} has no place "
            f"for its value: it needs {place}: add '__weakref__' to __slots__ "
            "(for a dataclass give weakref_slot=True)"
        )


class KeptAside(LazyProperty[T]):
    """A lazy property whose values are kept in a table, and not by the instances.

    For instances without a ``__dict__``, and for values that must be let go.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        recipe.tell_live(self._aside.live)
        self._cells = self._aside.cells
        self._is_plain = not recipe.weak and not recipe.is_coroutine
        self._is_weak = recipe.weak and not recipe.is_coroutine

    @property
    def _in_dict(self) -> bool:
        return False

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value."""
        cell = self._cells.get(id(instance))
        if cell is not None and cell() is instance:
            if self._is_plain:
                return cell.value
            if self._is_weak and (value := cell.value()) is not None:
                return value
        return self if instance is None else self._first(instance)

    def __set__(self, instance: Any, value: T) -> None:
        """Keep *value* in place of what would be computed."""
        if self._recipe.is_coroutine:
            msg = f"{self._recipe.title} is awaited, and cannot be set: reset it"
            raise AttributeError(msg)
        self._home_of(instance)
        self._recipe.check(value)
        self._disown(instance)
        self._aside.keep(instance, value)

    def __delete__(self, instance: Any) -> None:
        """Drop the value: it is computed when it is read again.

        Raises:
            AttributeError: There is none.
        """
        self._disown(instance)
        there = self._aside.drop(instance)
        self._forget_inherited(instance)
        if not there:
            raise AttributeError(self._attribute)


class LazyAwaitable(Generic[T]):
    """What reading a lazy property gives whose method is a coroutine function.

    It may be awaited any number of times.

    Args:
        awaited: Returns a coroutine that gives the value.
    """

    __slots__ = ("_awaited",)

    def __init__(self, awaited: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        return self._awaited().__await__()


class _AwaitedInDict(InDict):
    """A ``__dict__`` that has what can be awaited any number of times."""

    __slots__ = ()

    def read(self, instance: Any) -> Any:
        kept = super().read(instance)
        return kept.value if isinstance(kept, Awaited) else MISSING

    def keep(self, instance: Any, value: Any) -> None:
        super().keep(instance, Awaited(value))


class _Nowhere:
    """Keeps nothing: what super() gives an instance that takes no weak references."""

    def read(self, _instance: Any) -> Any:
        return MISSING

    def keep(self, _instance: Any, _value: Any) -> None:
        pass


def _home(recipe: Recipe, namespace: dict[str, Any], name: str) -> InDict:
    return (_AwaitedInDict if recipe.is_coroutine else InDict)(namespace, name)


def _again(
    kind: type[LazyProperty[Any]],
    function: Callable[[Any], Any],
    options: LazyOptions,
    name: str | None,
) -> LazyProperty[Any]:
    made = kind(Recipe(function, options))
    made._name = name  # noqa: SLF001 -- of the same module
    return made
