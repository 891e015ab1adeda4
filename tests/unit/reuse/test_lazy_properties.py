"""Lazy properties: computed once an instance, in classes of every shape."""

from __future__ import annotations

import abc
import copy
import functools
import gc
import pickle
import sys
import weakref
from dataclasses import FrozenInstanceError, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stratatrace import lazy
from stratatrace.errors import CircularValueError, InvalidTypeError, InvalidValueError
from stratatrace.reuse.lazy import LazyProperty
from stratatrace.reuse.lazy_homes import InDict

if TYPE_CHECKING:
    from stratatrace.testing import ListSink
from unit.reuse.lazy_classes import (
    SHAPES,
    Data,
    Evictable,
    Frozen,
    Mixin,
    Plain,
    Slotted,
    SlottedData,
    SlottedFrozen,
    Value,
)
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test


def descriptor_of(instance: object) -> LazyProperty[Any]:
    found = getattr(type(instance), "value")  # noqa: B009 -- no type knows it
    assert isinstance(found, LazyProperty)
    return found


@pytest.fixture(params=SHAPES)
def instance(request: pytest.FixtureRequest) -> Any:
    return SHAPES[request.param]()


def test_it_is_computed_once(instance: Any) -> None:
    """And is the very same object whenever it is read."""
    assert not descriptor_of(instance).is_computed(instance)
    first = instance.value
    assert instance.value is first
    assert first.owner_id == id(instance)
    assert instance.computed == [1]
    assert descriptor_of(instance).is_computed(instance)


def test_each_instance_has_its_own(instance: Any) -> None:
    """Equal ones, too."""
    other: Any = copy.copy(instance)
    if isinstance(instance, type):
        other = type(instance)("Other", (), {"computed": []})
    assert instance.value is not other.value


def test_it_is_computed_anew_when_it_was_deleted(instance: Any) -> None:
    """Where the instance lets anything be deleted."""
    if isinstance(instance, Frozen | SlottedFrozen):
        assert instance.value is instance.value
        with pytest.raises((FrozenInstanceError, TypeError)):  # Python's own, with slots.
            del instance.value
        return
    first = instance.value
    try:
        del instance.value
    except AttributeError:
        assert isinstance(instance, type)  # A class's own attributes are looked for in its dict.
        return
    assert not descriptor_of(instance).is_computed(instance)
    assert instance.value is not first
    assert instance.computed == [1, 1]


def test_what_is_not_there_cannot_be_deleted() -> None:
    """As of any attribute."""
    for instance in (Plain(), Slotted(), Evictable(), SlottedData()):
        with pytest.raises(AttributeError):
            del instance.value


def test_reset(instance: Any) -> None:
    """It works everywhere, and where there is nothing to drop."""
    descriptor = descriptor_of(instance)
    descriptor.reset(instance)
    first = instance.value
    descriptor.reset(instance)
    assert not descriptor.is_computed(instance)
    assert instance.value is not first


def test_it_can_be_assigned() -> None:
    """What is assigned is not computed; deleted, it is."""
    for instance in (Plain(), Slotted(), Evictable(), SlottedData(), Data()):
        mine = Value(instance, 0)
        instance.value = mine
        assert instance.value is mine
        assert instance.computed == []
        del instance.value
        assert instance.value.number == 1


def test_none_is_a_value() -> None:
    """And is computed once."""

    class Owner:
        calls = 0

        @lazy
        def nothing(self) -> None:
            Owner.calls += 1

    owner = Owner()
    assert owner.nothing is None
    assert owner.nothing is None
    assert Owner.calls == 1


def test_an_error_is_not_kept(instance: Any) -> None:
    """It is the user's own, and the next reading tries again."""
    if isinstance(instance, type):
        pytest.skip("an instance of a class of a metaclass is no class")

    class Failing(type(instance)):  # type: ignore[misc]
        __slots__ = ("tries",)

        @lazy
        def fallible(self) -> int:
            object.__setattr__(self, "tries", getattr(self, "tries", 0) + 1)
            if self.tries < 3:
                raise error
            return int(self.tries)

    error = KeyError("no")
    failing = Failing()
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            _ = failing.fallible
        assert caught.value is error
        assert not Failing.fallible.is_computed(failing)
    assert failing.fallible == failing.fallible == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_goes_with_its_instance(shape: str) -> None:
    """Nothing of it is left, also where it is kept beside."""
    instance = SHAPES[shape]()
    value, descriptor = weakref.ref(instance.value), descriptor_of(instance)
    before, of_class = len(descriptor._aside.cells), isinstance(instance, type)
    beside = not isinstance(descriptor._home_of(instance), InDict)
    del instance
    if of_class:  # A class is part of a cycle.
        gc.collect()
    assert value() is None
    assert len(descriptor._aside.cells) == before - beside


def test_an_id_that_is_used_again_is_not_taken_for_its_first_owner() -> None:
    """A cell that a callback failed to remove is seen to be another's."""
    gone, instance = Slotted(), Slotted()
    value = gone.value
    cell = Slotted.value._aside.cells.pop(id(gone))
    del gone
    Slotted.value._aside.cells[id(instance)] = cell
    assert instance.value is not value
    assert not [c for c in Slotted.value._aside.cells.values() if c() is None]


def test_read_on_the_class_it_tells_what_it_is() -> None:
    """Its name, its documentation and its function."""
    descriptor: Any = Plain.value
    assert descriptor.__doc__ == "Be computed."
    assert descriptor.__name__ == "value"
    assert descriptor.__module__ == Plain.__module__
    assert descriptor.__wrapped__(Plain()).number == 1
    assert repr(descriptor) == f"<lazy property {Plain.__module__}.Plain.value>"
    assert Slotted.value.__doc__ == "Be computed."


def test_an_abstract_one_must_be_made() -> None:
    """As of a property."""

    class Base(abc.ABC):
        @lazy
        @abc.abstractmethod
        def value(self) -> int: ...

    class Made(Base):
        @lazy
        def value(self) -> int:
            return 5

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]
    assert Made().value == 5


class Base:
    """Is asked by super()."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @lazy
    def rows(self) -> list[str]:
        """Be extended."""
        self.calls.append("base")
        return ["base"]


class Extended(Base):
    """Asks its base, within its own computation and later."""

    @lazy
    def rows(self) -> list[str]:
        """Extend."""
        self.calls.append("extended")
        return [*super().rows, *super().rows, "extended"]

    def base_rows(self) -> list[str]:
        return super().rows


class Further(Extended):
    """Asks further."""

    @lazy(evict_under_pressure=True)
    def rows(self) -> list[str]:
        """Extend."""
        return [*super().rows, "further"]


@pytest.mark.parametrize("kind", [Extended, Further])
def test_super_gives_the_value_of_the_base(kind: type[Extended]) -> None:
    """Before and after, computed once, and never the one that overrides it."""
    instance = kind()
    rows = instance.rows
    assert rows[:3] == ["base", "base", "extended"]
    assert instance.calls == ["extended", "base"]
    for _ in range(3):
        assert Base.rows.__get__(instance) == ["base"]
    assert instance.base_rows()[0] == "base"
    assert instance.rows is rows
    assert instance.calls == ["extended", "base"]


def test_what_overrides_is_computed_anew_with_its_base() -> None:
    """A stale part is not taken."""
    instance = Extended()
    assert instance.rows
    del instance.rows
    assert instance.rows
    assert instance.calls == ["extended", "base"] * 2
    Extended.rows.reset(instance)
    assert not Base.rows.is_computed(instance)
    assert instance.rows
    assert instance.calls == ["extended", "base"] * 3


def test_a_base_does_not_reset_what_overrides_it() -> None:
    """Only the other way round."""
    further = Further()
    rows = further.rows
    Base.rows.reset(further)
    assert further.base_rows()
    assert further.rows is rows


def test_super_where_nothing_can_be_kept_beside() -> None:
    """It is computed each time."""

    class Lean:
        __slots__ = ("__dict__",)

        @lazy
        def value(self) -> list[str]:
            return ["base"]

    class Heir(Lean):
        __slots__ = ()

        @lazy
        def value(self) -> list[str]:
            return [*super().value, "heir"]

    assert Heir().value == ["base", "heir"]


def test_a_property_that_asks_a_lazy_base() -> None:
    """It is computed once for all readings of the property."""

    class Doubled(Base):
        @property
        def rows(self) -> list[str]:
            return super().rows * 2

    doubled = Doubled()
    assert doubled.rows == doubled.rows == ["base", "base"]
    assert doubled.calls == ["base"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol: int) -> None:
    """What the instance has in its namespace goes with it; nothing else does."""
    plain, data, slotted = Plain(), Data(), SlottedData()
    for owner in (plain, data, slotted):
        assert owner.value.number == 1
        if protocol < 2 and owner is slotted:
            continue  # Slots are not pickled by these.
        again = pickle.loads(pickle.dumps(owner, protocol))
        kept = owner is not slotted
        assert type(owner).value.is_computed(again) is kept
        assert again.value.number == (1 if kept else 2)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copying(instance: Any, copied: Any) -> None:
    """A copy works, and computes where the value was kept beside."""
    first = instance.value
    again = copied(instance)
    if not isinstance(instance, type):
        assert again is not instance
    if not descriptor_of(instance).is_computed(again):
        assert again.value is not first
    assert again.value.number in {1, 2}


def test_the_descriptor_can_be_copied_and_pickled() -> None:
    """It is made anew of its function: no lock and no value goes with it."""
    instance = Evictable()
    assert instance.value.number == 1
    descriptor = Evictable.value
    for again in (copy.copy(descriptor), copy.deepcopy(descriptor)):
        assert type(again) is type(descriptor)
        assert again._name == "value"
        assert not again._aside.cells
        assert again.__wrapped__ is descriptor.__wrapped__
        assert again._recipe.options.evict_under_pressure


def test_nothing_half_done_is_pickled() -> None:
    """A copy that is made within the computation has no value."""

    class Owner:
        seen: Any = None

        @lazy
        def value(self) -> int:
            Owner.seen = copy.copy(self)
            return 5

    assert Owner().value == 5
    assert vars(Owner.seen) == {}


def test_it_needs_itself() -> None:
    """An error and no deadlock; afterwards it can be computed."""

    class Owner:
        deep = True

        @lazy
        def one(self) -> int:
            return self.two if Owner.deep else 1

        @lazy
        def two(self) -> int:
            return self.one

    owner = Owner()
    with pytest.raises(CircularValueError, match=r"Owner\.one needs its own value") as caught:
        _ = owner.one
    assert isinstance(caught.value, RecursionError)
    Owner.deep = False
    assert owner.two == 1


def test_of_another_instance_of_the_class_it_may_be_needed() -> None:
    """That is no circle."""

    class Node:
        def __init__(self, child: Node | None = None) -> None:
            self.child = child

        @lazy
        def depth(self) -> int:
            return 1 if self.child is None else self.child.depth + 1

    assert Node(Node(Node())).depth == 3


@pytest.mark.parametrize("options", [{}, {"weak": True}, {"evict_under_pressure": True}])
def test_there_is_no_place_for_it(options: dict[str, Any]) -> None:
    """It is said when the class is made."""
    with pytest.raises((InvalidTypeError, RuntimeError)) as caught:

        class Full:
            __slots__ = ("other",)

            @lazy(**options)
            def value(self) -> Value:
                return Value(self, 0)

    error = caught.value if sys.version_info >= (3, 12) else caught.value.__cause__
    assert isinstance(error, InvalidTypeError)
    assert "add '__weakref__' to __slots__" in str(error)


def test_a_dataclass_with_slots_and_no_place_for_it() -> None:
    """The remedy is in the message."""
    with pytest.raises((InvalidTypeError, RuntimeError)) as caught:

        @dataclass(slots=True)
        class Full:
            number: int

            @lazy
            def value(self) -> int:
                return self.number

    error = caught.value if sys.version_info >= (3, 12) else caught.value.__cause__
    assert "weakref_slot=True" in str(error)


def test_values_that_go_need_weak_references() -> None:
    """A namespace alone is not enough for them."""
    with pytest.raises((InvalidTypeError, RuntimeError)) as caught:

        class Lean:
            __slots__ = ("__dict__",)

            @lazy(weak=True)
            def value(self) -> Value:
                return Value(self, 0)

    error = caught.value if sys.version_info >= (3, 12) else caught.value.__cause__
    assert "needs a __weakref__:" in str(error)


def test_a_mixin_is_told_when_it_is_read() -> None:
    """It has no storage of its own, and its subclass has none either."""

    class Full(Mixin):
        __slots__ = ("computed",)

    with pytest.raises(InvalidTypeError, match=r"an instance of .*Full has no place"):
        _ = Full().value


def test_a_named_tuple_has_no_place() -> None:
    """Nor, before Python 3.13, does it tell the name."""

    def reads() -> int:
        class Point(NamedTuple):
            x: int

            @lazy
            def value(self) -> int:
                return self.x

        return Point(1).value

    with pytest.raises((InvalidTypeError, RuntimeError)):
        reads()


def test_it_has_one_name() -> None:
    """And must know it."""
    with pytest.raises((InvalidTypeError, RuntimeError)):

        class Twice:
            @lazy
            def one(self) -> int:
                return 1

            two = one

    class Late:
        pass

    Late.value = lazy(lambda self: 5)  # type: ignore[attr-defined]
    with pytest.raises(InvalidTypeError, match="does not know its name"):
        _ = Late().value  # type: ignore[attr-defined]


def test_a_private_name() -> None:
    """It is kept under the name that Python makes of it."""

    class Owner:
        @lazy
        def __rows(self) -> list[int]:
            return [1]

        def rows(self) -> list[int]:
            return self.__rows

    owner = Owner()
    assert owner.rows() is owner.rows()
    assert vars(owner) == {"_Owner__rows": [1]}


class TestWeak:
    """Values that are kept while somebody uses them."""

    class Owner:
        __slots__ = ("__weakref__", "calls")

        def __init__(self) -> None:
            self.calls = 0

        @lazy(weak=True)
        def value(self) -> Value:
            self.calls += 1
            return Value(self, self.calls)

        @lazy(weak=True)
        def number(self) -> int:
            return 5

    def test_it_is_kept_while_it_is_used(self) -> None:
        """And computed anew after that."""
        owner = self.Owner()
        value = owner.value
        assert owner.value is value
        assert self.Owner.value.is_computed(owner)
        del value
        assert not self.Owner.value.is_computed(owner)
        assert owner.value.number == 2

    def test_it_does_not_keep_its_instance(self) -> None:
        """Nor the other way round."""
        owner = self.Owner()
        value, gone = owner.value, weakref.ref(owner)
        del owner
        assert gone() is None
        assert value.number == 1
        assert not self.Owner.value._aside.cells

    def test_it_can_be_assigned_and_deleted(self) -> None:
        """What is assigned is kept weakly, too."""
        owner = self.Owner()
        mine = Value(owner, 7)
        owner.value = mine
        assert owner.value is mine
        del mine
        assert owner.value.number == 1
        with pytest.raises(AttributeError):
            del owner.value

    def test_what_takes_no_weak_references(self) -> None:
        """It is refused, by name, and nothing is kept."""
        owner = self.Owner()
        with pytest.raises(InvalidTypeError, match=r"Owner.number gave 5, and weak=True cannot"):
            _ = owner.number
        assert not self.Owner.number.is_computed(owner)
        with pytest.raises(InvalidTypeError):
            owner.number = 6


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "5 is not callable"),
        ("name", "'name' is not callable"),
        (property(lambda self: 5), "was given a property"),
        (functools.cached_property(lambda self: 5), "was given a cached_property"),
        (classmethod(lambda cls: 5), "was given a classmethod"),
        (Plain, r"write lazy\(lambda: Plain\(\)\)"),
        (lambda self, other: 5, "takes arguments"),
        (lambda *args: 5, "takes arguments"),
        (lambda **kwargs: 5, "takes arguments"),
        (lambda limit=3: 5, "takes arguments"),
        (lambda *, limit: 5, "takes arguments"),
        (Plain.value, "is lazy already"),
        (lazy(lambda: 5), "is lazy already"),
    ],
)
def test_what_cannot_be_lazy(target: Any, message: str) -> None:
    """It is said at once, and what to do."""
    with pytest.raises(InvalidTypeError, match=message):
        lazy(target)


def test_generators_cannot_be_kept() -> None:
    """They would be used up by the first reader."""

    def rows(self: object) -> Any:
        yield 1

    async def later(self: object) -> Any:
        yield 1

    for function in (rows, later):
        with pytest.raises(InvalidTypeError, match="return a list"):
            lazy(function)


def test_options_are_checked() -> None:
    """Their names, types and what they say together."""
    untyped: Any = lazy
    with pytest.raises(InvalidTypeError, match="did you mean weak"):
        untyped(waek=True)
    with pytest.raises(InvalidTypeError, match="weak is True or False, not 1"):
        untyped(weak=1)
    with pytest.raises(InvalidTypeError, match="evict_under_pressure is True or False"):
        untyped(evict_under_pressure="yes")
    with pytest.raises(InvalidTypeError, match="a name is text"):
        untyped(name=5)
    with pytest.raises(InvalidValueError, match="must not be empty"):
        lazy(name="")
    with pytest.raises(InvalidValueError, match="give one of weak"):
        lazy(weak=True, evict_under_pressure=True)


def test_the_first_computation_is_measured(sink: ListSink) -> None:
    """Once, under its name, with what it retains; failing ones too."""

    class Owner:
        fail = False

        @lazy
        def rows(self) -> bytearray:
            if Owner.fail:
                raise KeyError
            return bytearray(1_000_000)

        @lazy(name="the index")
        def index(self) -> bytearray:
            return bytearray(500_000)

    owner = Owner()
    for _ in range(3):
        assert owner.rows
        assert owner.index
    rows, index = sink.measurements
    assert rows.callsite.name.endswith("Owner.rows")
    assert rows.callsite.line is not None
    assert rows.heap_net_bytes == pytest.approx(1_000_000, abs=1000)
    assert (index.callsite.name, index.callsite.label) == ("the index", "the index")
    Owner.fail = True
    with pytest.raises(KeyError):
        _ = Owner().rows
    assert sink.last.error_type == "KeyError"
