"""`pooled`: construction borrows, `close` and ``with`` give back, and the class stays a class."""

from __future__ import annotations

import copy
import inspect
import pickle
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from stratatrace import MemoryPool, pooled
from stratatrace.config import Config
from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    PoolExhaustedError,
    PoolMisuseError,
)
from stratatrace.reuse.pooled import PooledObject
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Measure, and raise what fails in that."""
    with recording(Config(probe="rss")):
        yield


@pooled(max_size=2, timeout=0)
class Matcher(PooledObject):
    """Matches."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.patterns: list[str] = []

    def reset(self) -> None:
        self.patterns.clear()


@pytest.fixture(autouse=True)
def all_matchers_came_back() -> Iterator[None]:
    yield
    assert MemoryPool.of(Matcher).stats().used == 0


def test_construction_borrows() -> None:
    """And `close` and a block give back; `__init__` runs once for each object."""
    before = Matcher.made
    one = Matcher()
    one.patterns.append("a")
    one.close()
    with Matcher() as other:
        assert other is one
        assert other.patterns == []
        second = Matcher()
        with pytest.raises(PoolExhaustedError):
            Matcher()
    second.close()
    second.close()  # As of a file.
    with ExitStack() as stack:
        stack.enter_context(Matcher())
        assert MemoryPool.of(Matcher).stats().used == 1
    assert Matcher.made <= before + 2


def test_the_class_stays_a_class() -> None:
    """With its name, its type, its signature and its instances."""
    assert isinstance(Matcher, type)
    assert type(Matcher) is type
    assert (Matcher.__name__, Matcher.__doc__) == ("Matcher", "Matches.")
    assert str(inspect.signature(Matcher)).replace("'", "") == "() -> None"
    with Matcher() as matcher:
        assert type(matcher) is Matcher
        assert isinstance(matcher, PooledObject)
    assert MemoryPool.of(Matcher).name == f"{__name__}.Matcher"


def test_copies_and_pickles_borrow_nothing() -> None:
    """They are objects of no pool, which may be closed all the same."""
    with Matcher() as matcher:
        matcher.patterns.append("a")
        for other in (
            copy.copy(matcher),
            copy.deepcopy(matcher),
            pickle.loads(pickle.dumps(matcher)),
        ):
            assert type(other) is Matcher
            assert other.patterns == ["a"]
            other.close()
            with other as same:
                assert same is other
        assert MemoryPool.of(Matcher).stats().used == 1


def test_subclasses_are_not_pooled() -> None:
    """They are constructed as they say, with arguments."""

    class Other(Matcher):
        def __init__(self, size: int, *, name: str = "") -> None:
            super().__init__()
            self.size, self.name = size, name

    used = MemoryPool.of(Matcher).stats().used
    one, two = Other(3, name="x"), Other(4)
    assert (one.size, one.name, two.size) == (3, "x", 4)
    one.close()
    with two as same:
        assert same is two
    assert MemoryPool.of(Matcher).stats().used == used


def test_arguments_are_refused() -> None:
    """Objects of one pool are alike."""
    with pytest.raises(
        InvalidTypeError, match="Matcher is pooled, and its objects are made without"
    ):
        Matcher(5)  # type: ignore[call-arg]

    @pooled
    class Wanting:
        def __init__(self, size: int) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Wanting()  # type: ignore[call-arg]


class Connection:
    """Has ends of its own, which close it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def close(self) -> None:
        self.told.append("closed")

    def __enter__(self) -> Self:
        self.told.append("entered")
        return self

    def __exit__(self, *_: object) -> bool:
        self.told.append("left")
        self.close()
        return True


def test_a_class_with_ends_of_its_own() -> None:
    """Its `close` gives back, and closes what is thrown away; its block runs as it is."""
    kind: type[Connection] = pooled(max_size=1, timeout=0)(type("Pooled", (Connection,), {}))
    pool = MemoryPool.of(kind)
    connection = kind()
    connection.close()
    assert connection.told == []
    with kind() as entered:
        assert entered is connection
        _ = 1 / 0  # Which its __exit__ swallows.
    assert entered.told == ["entered", "left"]
    assert (pool.stats().idle, pool.stats().used) == (1, 0)
    pool.clear()
    assert entered.told == ["entered", "left", "closed"]


def test_leaving_does_not_give_back_what_is_somebody_elses_by_now() -> None:
    """Its own `__exit__` may have given it back, and another has it."""
    taken: list[Any] = []

    class Racing(Connection):
        def __exit__(self, *_: object) -> None:  # type: ignore[override] # it swallows nothing
            self.close()
            taken.append(kind())  # As another thread may, just then.

    kind = pooled(max_size=1, timeout=0)(Racing)
    with kind():
        pass
    assert MemoryPool.of(kind).stats().used == 1
    taken.pop().close()


def test_classes_of_all_kinds() -> None:
    """With slots, a `__new__` of their own, and as a dataclass."""

    @pooled
    class Slotted:
        __slots__ = ("value",)

    @pooled
    class New:
        def __new__(cls) -> Self:
            made = super().__new__(cls)
            made.value = 5  # type: ignore[attr-defined]
            return made

    @pooled(reset=None)
    @dataclass(slots=True)
    class Data:
        rows: list[int] = field(default_factory=list)

    kinds: tuple[Any, ...] = (Slotted, New, Data)
    for kind in kinds:
        one = kind()
        number = id(one)
        one.close()
        with kind() as other:
            assert id(other) == number


def test_debug_mode() -> None:
    """What was closed cannot be used."""
    kind: Any = pooled(max_size=1, debug=True)(type("Kind", (Matcher,), {}))
    with kind() as matcher:
        assert isinstance(matcher, kind)
        assert matcher.patterns == []
    with pytest.raises(PoolMisuseError):
        _ = matcher.patterns
    one = kind()
    one.close()
    with pytest.raises(PoolMisuseError):
        one.close()


@pooled(max_size=1, timeout=0, reset=bytearray.clear)
def make_buffer() -> bytearray:
    """Make a buffer."""
    return bytearray()


def test_a_factory_function() -> None:
    """Gives leases of what it makes."""
    with make_buffer() as buffer:
        buffer.extend(b"abc")
        with pytest.raises(PoolExhaustedError):
            make_buffer()
    lease = make_buffer()
    assert lease.value is buffer
    assert lease.value == b""
    lease.close()
    lease.close()
    assert (make_buffer.__name__, make_buffer.__doc__) == ("make_buffer", "Make a buffer.")
    assert MemoryPool.of(make_buffer).stats().reused == 1


def test_bare() -> None:
    """Without options, of a class and of a function."""

    @pooled
    class Bare:
        pass

    @pooled
    def bare() -> Bare:
        return object.__new__(Bare)

    assert MemoryPool.of(Bare).stats().max_size == 100
    with bare() as made:
        assert isinstance(made, Bare)


def test_misuse() -> None:
    """Is told at once."""
    with pytest.raises(InvalidTypeError, match="5"):
        pooled(5)  # type: ignore[call-overload]
    with pytest.raises(InvalidValueError, match="max_size"):
        pooled(max_size=0)(Connection)
    with pytest.raises(TypeError, match="maxsize"):
        pooled(maxsize=5)(Connection)  # type: ignore[call-overload]
    with pytest.raises(InvalidTypeError, match="Matcher is pooled already"):
        pooled(Matcher)
    with pytest.raises(InvalidTypeError, match="has no pool: decorate it with @pooled"):
        MemoryPool.of(Connection)
    assert Connection().__exit__() is True
