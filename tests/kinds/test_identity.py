"""A decorated callable is, to whoever looks at it, the callable that was decorated."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import typing
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import profile_memory
from stratatrace.wrapping import MeasuredFunction

from .callables import DECORATORS, PLACES, WAYS, Work, cached, undecorated
from .endings import ENDINGS, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Told

PREDICATES: tuple[Callable[[object], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.isfunction,
    inspect.ismethod,
    inspect.isclass,
    callable,
)
RESULT_PREDICATES: tuple[Callable[[object], bool], ...] = (
    inspect.iscoroutine,
    inspect.isgenerator,
    inspect.isasyncgen,
    inspect.isawaitable,
)


def _dispose(result: Any) -> None:
    if inspect.iscoroutine(result):
        result.close()


@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "place", [name for name in PLACES if "property" not in name and name != "twice wrapped"]
)
def test_the_kind_is_kept(place: str, way: str, decorate: Callable[[Any], Any], told: Told) -> None:
    """What inspect says of the callable, and of its result, is what it says of the bare one."""
    bare, ours = (PLACES[place](d, WAYS[way](Work())) for d in (undecorated, decorate))
    for tells in PREDICATES:
        assert tells(ours) == tells(bare), tells.__name__
    results = bare(), ours()
    for tells in RESULT_PREDICATES:
        assert tells(results[1]) == tells(results[0]), tells.__name__
    for result in results:
        _dispose(result)


async def annotated(first: int, /, second: str = "x", *rest: float, only: bool = False) -> None:
    """Document nothing but itself."""


annotated.mark = "its own attribute"  # type: ignore[attr-defined]


@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
def test_what_describes_a_function_is_kept(decorate: Callable[[Any], Any]) -> None:
    """Signature, annotations, documentation, names, attributes and source are the function's."""
    ours = decorate(annotated)
    for name in (
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__annotations__",
        "__defaults__",
        "__kwdefaults__",
        "__code__",
        "__globals__",
        "__dict__",
        "mark",
    ):
        assert getattr(ours, name) == getattr(annotated, name), name
    assert ours.__wrapped__ is annotated
    assert inspect.unwrap(ours) is annotated
    assert inspect.signature(ours) == inspect.signature(annotated)
    assert typing.get_type_hints(ours) == typing.get_type_hints(annotated)
    assert inspect.getsource(ours) == inspect.getsource(annotated)
    assert inspect.getdoc(ours) == inspect.getdoc(annotated)
    assert isinstance(ours, types.FunctionType)
    assert isinstance(ours, MeasuredFunction)
    assert ours == annotated
    assert hash(ours) == hash(annotated)


def test_attributes_set_on_a_measured_function_are_the_functions() -> None:
    """A framework that marks the decorated function marks the function."""

    def marked() -> None: ...

    ours: Any = profile_memory(marked)
    ours.route = "/"
    assert marked.route == "/"  # type: ignore[attr-defined]
    del ours.route
    assert not hasattr(marked, "route")


class Described:
    """A class whose members are measured in every order of decorators."""

    @profile_memory
    def method(self, value: int) -> tuple[Any, int]:
        """Return itself."""
        return self, value

    @classmethod
    @profile_memory
    def inner_class(cls, value: int) -> tuple[Any, int]:
        """Return the class."""
        return cls, value

    @profile_memory
    @classmethod
    def outer_class(cls, value: int) -> tuple[Any, int]:
        """Return the class."""
        return cls, value

    @staticmethod
    @profile_memory
    def inner_static(value: int) -> tuple[Any, int]:
        """Return nothing in particular."""
        return None, value

    @profile_memory
    @staticmethod
    def outer_static(value: int) -> tuple[Any, int]:
        """Return nothing in particular."""
        return None, value


class Derived(Described):
    """Inherits all of them."""


@pytest.mark.parametrize(
    ("name", "bound_to"),
    [
        ("method", "instance"),
        ("inner_class", "class"),
        ("outer_class", "class"),
        ("inner_static", None),
        ("outer_static", None),
    ],
)
@pytest.mark.parametrize("owner", [Described, Derived])
def test_members_bind_as_they_would_without_us(
    told: Told, owner: type[Described], name: str, bound_to: str | None
) -> None:
    """Bound members know what they are bound to, on the class and on the instance, and agree."""
    instance = owner()
    expected = {"instance": instance, "class": owner, None: None}[bound_to]
    member = getattr(instance, name)
    assert member(3) == (expected, 3)
    if bound_to is not None:
        assert isinstance(member, types.MethodType)
        assert member.__self__ is expected
        assert member == getattr(instance, name)
        assert hash(member) == hash(getattr(instance, name))
    assert member.__name__ == name
    assert list(inspect.signature(member).parameters) == ["value"]
    if bound_to == "instance":
        assert getattr(owner, name)(instance, 3) == (instance, 3)
    else:
        assert getattr(owner, name)(3) == (expected, 3)
    assert {m.callsite.name for m in told.measurements} == {f"Described.{name}"}
    kinds = {"class": classmethod, None: staticmethod}
    static = inspect.getattr_static(owner, name)
    assert isinstance(static, kinds.get(bound_to, types.FunctionType))


def test_super_reaches_a_measured_method(told: Told) -> None:
    """A measured override and the measured method that it overrides are two calls."""

    class Child(Described):
        @profile_memory
        def method(self, value: int) -> tuple[Any, int]:
            return super().method(value + 1)

    child = Child()
    assert child.method(1) == (child, 2)
    assert [m.callsite.name.rpartition(".")[0].rpartition(".")[2] for m in told.measurements] == [
        "Described",
        "Child",
    ]


@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
def test_properties_keep_all_their_accessors(told: Told, decorate: Callable[[Any], Any]) -> None:
    """Getter, setter and deleter of a decorated property are each measured, and documented."""

    class Owner:
        value = 1

        def _get(self) -> int:
            """Tell the value."""
            return self.value

        def _set(self, value: int) -> None:
            self.value = value

        def _delete(self) -> None:
            del self.value

        it = decorate(property(_get, _set, _delete))

    owner = Owner()
    owner.it = 5
    assert owner.it == 5
    del owner.it
    assert owner.it == 1
    assert inspect.getattr_static(Owner, "it").__doc__ == "Tell the value."
    assert [m.callsite.name.rpartition(".")[2] for m in told.measurements] == [
        "_set",
        "_get",
        "_delete",
        "_get",
    ]


def test_a_cached_property_is_computed_and_measured_once(told: Told) -> None:
    """functools.cached_property over a measured method keeps its value."""

    class Owner:
        @functools.cached_property
        @profile_memory
        def value(self) -> object:
            return object()

    owner = Owner()
    assert owner.value is owner.value
    assert len(told.measurements) == 1


@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
@pytest.mark.parametrize(
    ("callable_of", "given"),
    [
        pytest.param(lambda: len, [[1, 2, 3]], id="builtin"),
        pytest.param(lambda: functools.partial(max, 2), [1, 9], id="partial"),
        pytest.param(
            type("Handler", (), {"__call__": lambda _self, *a: len(a)}),
            [1, 2],
            id="callable instance",
        ),
        pytest.param(lambda: [3, 3, 1].count, [3], id="bound method of a builtin"),
    ],
)
@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor")
def test_what_does_not_bind_bare_does_not_bind_measured(
    told: Told,
    decorate: Callable[[Any], Any],
    callable_of: Callable[[], Any],
    given: list[Any],
) -> None:
    """In a class, a callable that is no descriptor gets the arguments and not the instance."""
    bare = type("Owner", (), {"handler": callable_of()})()
    ours = type("Owner", (), {"handler": decorate(callable_of())})()
    assert ours.handler(*given) == bare.handler(*given)


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_the_function_itself(way: str) -> None:
    """Copying a measured function gives it back, as copying a function does."""
    ours = profile_memory(WAYS[way](Work()))
    assert copy.copy(ours) is ours
    assert copy.deepcopy(ours) is ours
    assert copy.deepcopy({"f": ours})["f"] is ours


def test_objects_with_measured_methods_can_be_copied(told: Told) -> None:
    """A copied bound method is bound to the copy, as it is without us."""
    instance = Described()
    assert copy.copy(instance.method) == instance.method
    copied: Any = copy.deepcopy(instance.method)
    assert copied.__self__ is not instance
    assert copied(1) == (copied.__self__, 1)


@pytest.mark.parametrize("order", ["over", "under"])
def test_singledispatch_works_in_both_orders(told: Told, order: str) -> None:
    """Dispatch by type finds a measured implementation, and can itself be measured."""

    def default(value: object) -> str:
        return "object"

    def whole(value: int) -> str:
        return "int"

    if order == "over":
        generic: Any = functools.singledispatch(profile_memory(default))
        generic.register(profile_memory(whole))
    else:
        generic = functools.singledispatch(default)
        generic.register(whole)
        generic = profile_memory(generic)
    assert [generic(1), generic("x")] == ["int", "object"]
    assert len(told.measurements) == 2


@pytest.mark.parametrize("way", ["function"])
def test_lru_cache_works_in_both_orders(told: Told, way: str) -> None:
    """A cache over a measured function hides calls from us; under it, every call is measured."""
    over: Any = cached(profile_memory(WAYS[way](Work())))
    under: Any = profile_memory(cached(WAYS[way](Work())))
    for call, measured in ((over, 1), (under, 3)):
        told.measurements.clear()
        assert [call() for _ in range(3)] == ["worked"] * 3
        assert call.cache_info().hits == 2
        assert len(told.measurements) == measured
    under.cache_clear()
    assert under.cache_info().currsize == 0


def test_a_cached_method_binds(told: Told) -> None:
    """A measured cache in a class takes the instance as the bare one does."""

    class Owner:
        @profile_memory
        @functools.lru_cache(maxsize=2)  # noqa: B019 -- the test is about it
        def value(self, add: int) -> int:
            return 1 + add

    assert Owner().value(1) == 2


def test_wraps_and_update_wrapper_copy_from_a_measured_function(told: Told) -> None:
    """Another decorator can stand over a measured function."""
    ours = profile_memory(annotated)

    @functools.wraps(ours)
    def over(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    assert over.__name__ == "annotated"
    assert inspect.signature(over) == inspect.signature(annotated)


def test_a_partial_method_of_a_measured_function_binds(told: Told) -> None:
    """functools.partialmethod takes a measured function."""

    class Owner:
        @profile_memory
        def add(self, first: int, second: int) -> int:
            return first + second

        add_two = functools.partialmethod(add, 2)

    assert Owner().add_two(3) == 5
    assert len(told.measurements) == 1


def test_an_abstract_method_stays_abstract() -> None:
    """A class with a measured abstract method cannot be made."""

    class Base(ABC):
        @profile_memory
        @abstractmethod
        def inner(self) -> None: ...

        @abstractmethod
        @profile_memory
        def outer(self) -> None: ...

    assert Base.__abstractmethods__ == {"inner", "outer"}


@pytest.mark.parametrize("way", WAYS)
def test_one_decorator_object_decorates_many(told: Told, way: str) -> None:
    """The object that `profile_memory(...)` returns can be kept and used again."""
    decorate = profile_memory(attributes={"team": "search"})
    first, second = decorate(WAYS[way](Work())), decorate(WAYS[way](Work()))
    for call in (first, second):
        outcome_of(call, ENDINGS[way]["returns"].drive)
    assert [m.callsite.attributes["team"] for m in told.measurements] == ["search"] * 2
    assert told.measurements[0].callsite is not told.measurements[1].callsite


def test_the_callsite_says_where_the_function_stands(told: Told) -> None:
    """Name, function, file and line are those of the definition, and reach the span."""

    @profile_memory
    def placed() -> None: ...

    placed()
    callsite = told.sink.last.callsite
    code = inspect.unwrap(placed).__code__
    assert callsite.name == placed.__qualname__
    assert callsite.function == f"{__name__}.{placed.__qualname__}"
    assert (callsite.file, callsite.line) == (code.co_filename, code.co_firstlineno)
    attributes = told.spans[callsite.name].attributes
    assert attributes is not None
    assert attributes["code.function.name"] == callsite.function
    assert attributes["code.line.number"] == callsite.line
