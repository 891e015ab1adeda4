"""Debug mode: what is used after it was given back raises, and leaks are told with their place."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import PoolExhaustedError, PoolMisuseError
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Measure, and raise what fails in that."""
    with recording(Config(probe="rss")):
        yield


class Table(dict[str, int]):
    """Can do what dictionaries can, and be called."""

    def __call__(self) -> int:
        return len(self)

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, *_: object) -> None: ...


def entered(table: Any) -> None:
    with table:
        pass


USES: list[Callable[[Any], object]] = [
    len,
    bool,
    iter,
    hash,
    str,
    entered,
    lambda table: table(),
    lambda table: table["a"],
    lambda table: table.__setitem__("a", 1),
    lambda table: "a" in table,
    lambda table: table.items(),
    lambda table: table.name,
    lambda table: setattr(table, "name", 1),
    lambda table: delattr(table, "name"),
    lambda table: table == {},
    lambda table: table | {},
    lambda table: table + 1,
    lambda table: f"{table:>5}",
]


def test_it_works_while_it_is_out() -> None:
    """What stands in for an object is like it."""
    pool = MemoryPool(Table, reset="clear", debug=True)
    with pool.lease() as table:
        assert isinstance(table, Table)
        table["a"] = 1
        table.name = "mine"  # type: ignore[attr-defined]
        assert (len(table), table(), table["a"], list(table)) == (1, 1, 1, ["a"])
        with table as inner:
            assert inner == "entered"
    with pool.lease() as table:
        assert table == {}


@pytest.mark.parametrize("number", range(len(USES)))
def test_used_after_release(number: int) -> None:
    """Whatever is done with it, and also when somebody else has the object."""
    pool = MemoryPool(Table, reset="clear", debug=True, name="tables")
    table = pool.acquire()
    pool.release(table)
    other = pool.acquire()
    with pytest.raises(PoolMisuseError, match=r"pool tables is used after .* at .*_debug\.py:\d+"):
        USES[number](table)
    assert len(other) == 0


def test_released_twice_though_somebody_else_has_it() -> None:
    """Which cannot be told without debug mode: the place in it is that of the first release."""
    pool = MemoryPool(Table, reset="clear", debug=True, max_size=1)
    table = pool.acquire()
    pool.release(table)
    other = pool.acquire()
    for end in (pool.release, pool.discard):
        with pytest.raises(PoolMisuseError, match="after it was given back"):
            end(table)
    pool.release(other)
    assert pool.stats().discarded == 0


def test_what_it_stands_for_may_be_given_back_too() -> None:
    """A method that gives its own object back has that, and not what stands in for it."""
    pool = MemoryPool(Table, reset="clear", debug=True, max_size=1)
    table = pool.acquire()
    pool.release(table.__wrapped__)  # type: ignore[attr-defined]
    with pytest.raises(PoolMisuseError):
        len(table)
    assert pool.acquire(timeout=0) == {}


def test_leaks_are_told_with_their_place(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each place; so are the places in the error when the pool is exhausted."""
    pool = MemoryPool(Table, reset="clear", debug=True, max_size=1)

    def leak() -> None:
        pool.acquire(timeout=0)

    for _ in range(3):
        leak()
        gc.collect()
    kept = pool.acquire(timeout=0)
    gc.collect()
    assert pool.stats().leaked == 3
    assert len(caplog.records) == 1
    assert f"{__file__}:{leak.__code__.co_firstlineno + 1} in" in caplog.text
    with pytest.raises(PoolExhaustedError, match=r"some were asked for at .*test_pool_debug\.py"):
        pool.acquire(timeout=0)
    pool.release(kept)


@pytest.mark.parametrize("factory", [bytearray, list, type("Buffer", (bytearray,), {})])
def test_what_cannot_be_stood_in_for(factory: type) -> None:
    """What C code takes by its type or its buffer is handed out as it is."""
    pool: MemoryPool[Any] = MemoryPool(factory, reset="clear", debug=True, max_size=1)
    item = pool.acquire()
    assert type(item) is factory
    pool.release(item)
    with pytest.raises(PoolMisuseError, match="given back already"):
        pool.release(item)
    del item
    pool.acquire(timeout=0)
    gc.collect()
    item = pool.acquire(timeout=0)
    assert pool.stats().leaked == 1
    pool.release(item)
