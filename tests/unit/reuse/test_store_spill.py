"""Spilling: past the budget the oldest go to disk; nothing is lost when that is full."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from stratatrace import CompressedStore
from stratatrace.errors import DamagedEntryError, InvalidTypeError, NotReadyError, SpillError
from stratatrace.reuse import store_holding

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are removed differently")


def value(number: int) -> bytes:
    """Return a value of a kilobyte that cannot be compressed."""
    return bytes((number * 7 + place * place) % 251 for place in range(1_000))


def spilling(place: Path | str, max_bytes: int | str = 20_000, **options: Any) -> Any:
    return CompressedStore(
        codec="bytes", threshold="1GB", max_bytes=max_bytes, spill=place, **options
    )


def on_disk(store: Any) -> list[Any]:
    return [key for key, slot in store._holding.slots.items() if type(slot) is int]


def full_from_now_on(store: Any) -> Any:
    """Have no room on the disk; returns what makes room."""
    connection = store._holding._spill._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: connection.execute("PRAGMA max_page_count = 1000000")


def test_the_budget_is_kept(tmp_path: Path) -> None:
    """By what is in memory, whatever is set; and all can be read."""
    with spilling(tmp_path) as store:
        for number in range(200):
            store[number] = value(number)[: 10 + number * 5]
            assert store.stats().memory_bytes <= 20_000
        for number in range(0, 200, 3):
            store[number] = value(number)
            assert store.stats().memory_bytes <= 20_000
        assert store.stats().spilled_entries == len(on_disk(store)) > 100
        for number in range(200):
            assert store[number] == (
                value(number) if number % 3 == 0 else value(number)[: 10 + number * 5]
            )


def test_the_oldest_go_first(tmp_path: Path) -> None:
    """By when they were set first; some more than have to, so that not each set waits."""
    with spilling(tmp_path) as store:
        for number in range(19):
            store[number] = value(number)
        assert on_disk(store) == []
        store[0] = value(100)
        store[19] = value(19)
        assert on_disk(store) == [0, 1, 2]
        assert store[0] == value(100)
        assert on_disk(store) == [0, 1, 2]  # To read brings nothing back.
        store[1] = value(101)  # To set does.
        assert on_disk(store) == [0, 2]


def test_a_value_beyond_the_budget(tmp_path: Path) -> None:
    """Goes to disk at once, and drives nothing else out of memory."""
    with spilling(tmp_path) as store:
        store["small"] = b"1"
        store["large"] = value(1) * 100
        assert on_disk(store) == ["large"]
        assert store["large"] == value(1) * 100
        store["large"] = b"2"
        store["small"] = value(1) * 100
        assert on_disk(store) == ["small"]
        assert store.stats().spilled_bytes == 100_006


def test_a_value_that_no_row_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused, and what was there stays."""
    monkeypatch.setattr(store_holding, "LARGEST_ROW_BYTES", 50_000)
    with spilling(tmp_path) as store:
        store["a"] = b"before"
        with pytest.raises(SpillError, match="more than 50000 bytes"):
            store["a"] = value(1) * 60
        assert dict(store) == {"a": b"before"}


def test_nothing_is_lost_when_the_disk_is_full(tmp_path: Path) -> None:
    """A set is refused, and all that was set before is there; with room, it goes on."""
    with spilling(tmp_path) as store:
        expected = {number: value(number) for number in range(60)}
        store.update(expected)
        make_room = full_from_now_on(store)
        refused: list[OSError] = []
        for number in range(60, 120):
            try:
                store[number] = value(number)
            except SpillError as error:
                refused.append(error)
            else:
                expected[number] = value(number)
            assert store.stats().memory_bytes <= 20_000
        assert len(refused) > 20
        assert all("nothing is lost" in str(error) for error in refused)
        assert dict(store) == expected
        with pytest.raises(SpillError):
            store[5] = value(5) * 2  # Also of a key that is there.
        with pytest.raises(SpillError):
            store["large"] = value(5) * 30
        assert dict(store) == expected
        newest = max(expected)
        store[newest] = expected[newest] = b"shorter"  # What needs no disk goes on.
        # So does what makes room itself.
        for number in range(40):
            del store[number], expected[number]
        for number in range(200, 220):
            store[number] = expected[number] = value(number)
        assert dict(store) == expected
        make_room()
        for number in range(120, 200):
            store[number] = expected[number] = value(number)
        assert dict(store) == expected
        assert store.stats().entries == len(expected)
        assert store.stats().raw_bytes == sum(map(len, expected.values()))


def test_deletions_wait_where_they_cannot_be_written(tmp_path: Path) -> None:
    """The key is gone at once; the row goes when it can."""
    with spilling(tmp_path, max_bytes=1) as store:
        for number in range(600):
            store[number] = value(number)
        spill = store._holding._spill
        spill._connection.execute("PRAGMA query_only = ON")
        for number in range(550):
            del store[number]
        assert list(store) == list(range(550, 600))
        assert len(spill._dead) == 550
        spill._connection.execute("PRAGMA query_only = OFF")
        store["one more"] = value(1)
        assert spill._dead == []
        assert rows_of(store) == 51


def rows_of(store: Any) -> int:
    found = store._holding._spill._connection.execute("SELECT count(*) FROM entries").fetchone()
    return int(found[0])


def test_deletions_are_written_without_sets(tmp_path: Path) -> None:
    """When they are many."""
    with spilling(tmp_path, max_bytes=1) as store:
        for number in range(600):
            store[number] = value(number)
        for number in range(590):
            del store[number]
        assert rows_of(store) < 100


def test_a_write_that_fails_is_taken_back(tmp_path: Path) -> None:
    """At once, and not when the next one comes."""
    with spilling(tmp_path, max_bytes=1) as store:
        store["a"] = value(1)
        connection = store._holding._spill._connection
        before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 500)
        with pytest.raises(SpillError, match="too big"):
            store["b"] = value(2)
        assert not connection.in_transaction
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
        assert dict(store) == {"a": value(1)}
        store["b"] = value(2)
        assert (store["b"], rows_of(store)) == (value(2), 2)


def test_room_on_disk_is_used_again(tmp_path: Path) -> None:
    """By what is set anew: the file does not grow with the number of sets."""
    path = tmp_path / "spill"
    with spilling(path, max_bytes=1) as store:
        for turn in range(100):
            for number in range(100):
                store[number] = value(turn)
        assert path.stat().st_size < 1_500_000
        store.clear()
        store[1] = value(1)
        (rows,) = store._holding._spill._connection.execute(
            "SELECT count(*) FROM entries"
        ).fetchone()
        assert rows == 1


def test_keys_that_come_and_go(tmp_path: Path) -> None:
    """Are not all remembered for the order that they came in."""
    with spilling(tmp_path) as store:
        store["first"] = b"1"
        for number in range(5_000):
            store[number] = b"2"
            del store[number]
        assert len(store._holding._queue) < 100
        for number in range(30):
            store[number] = value(number)
        assert on_disk(store)[0] == "first"


def test_a_file_without_a_name(tmp_path: Path) -> None:
    """Is never to be seen in the directory, and so is never left behind."""
    with spilling(tmp_path, max_bytes=1) as store:
        store[1] = value(1)
        assert list(tmp_path.iterdir()) == []
        assert store[1] == value(1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_callers(tmp_path: Path) -> None:
    """Has that name, is for nobody else to read, and stays when the store is closed."""
    path = tmp_path / "my spill"
    with spilling(str(path), max_bytes=1) as store:
        store[1] = value(1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [each.name for each in tmp_path.iterdir()] == ["my spill"]
    assert value(1) in path.read_bytes()


def test_a_store_that_could_not_be_filled(tmp_path: Path) -> None:
    """Leaves no file."""
    path = tmp_path / "my spill"
    with pytest.raises(InvalidTypeError):
        CompressedStore[str, Any]({"a": "text", "b": 5}, max_bytes=1, spill=path)
    assert list(tmp_path.iterdir()) == []


def descriptors(part: str) -> int:
    links = list(Path("/proc/self/fd").iterdir())
    return sum(part in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no list of descriptors")
def test_the_file_is_closed(tmp_path: Path) -> None:
    """With the store, or when the store is gone."""
    store = spilling(tmp_path)
    other = spilling(tmp_path)
    assert descriptors(str(tmp_path)) == 2
    store.close()
    assert descriptors(str(tmp_path)) == 1
    del other
    gc.collect()
    assert descriptors(str(tmp_path)) == 0


def test_places_that_will_not_do(tmp_path: Path) -> None:
    """Are told at once, and nothing is written over."""
    taken = tmp_path / "taken"
    taken.write_text("somebody's")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place, says in (
        (taken, "is there already"),
        (tmp_path / "dangling", "is there already"),
        (tmp_path / "missing" / "file", "cannot spill to"),
        (taken / "file", "cannot spill to"),
        ("a\0b", "cannot spill to|embedded null"),
    ):
        with pytest.raises(SpillError, match=says):
            spilling(place)
    assert taken.read_text() == "somebody's"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dangling", "taken"]


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raises where the store is made, and leaves no file."""
    monkeypatch.setattr(
        "stratatrace.reuse.store_spill._SETTINGS",
        ("PRAGMA max_page_count = 1", "CREATE TABLE a (b)"),
    )
    with pytest.raises(SpillError, match="full"):
        spilling(tmp_path)
    assert list(tmp_path.iterdir()) == []


def changed_on_disk(store: Any, path: Path, old: bytes, new: bytes) -> None:
    """Change the file behind sqlite's back."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    # What it has of the file in memory.
    store._holding._spill._connection.execute("PRAGMA shrink_memory").close()


def test_a_file_that_is_damaged(tmp_path: Path) -> None:
    """Names the entry that cannot be read, and the others can be."""
    path = tmp_path / "spill"
    with spilling(path, max_bytes=1) as store:
        for number in range(50):
            store[number] = b"%04d" % number + value(number)
        changed_on_disk(store, path, b"0017" + value(17)[:20], b"0018" + value(17)[:20])
        for number in range(50):
            if number != 17:
                assert store[number] == b"%04d" % number + value(number)
        with pytest.raises(DamagedEntryError, match="entry 17 is damaged: its checksum is wrong"):
            store[17]
        del store[17]
        assert len(dict(store)) == 49


def test_pages_that_are_no_longer_sqlites(tmp_path: Path) -> None:
    """The entries in them are damaged, or missing; none is taken for another's."""
    path = tmp_path / "spill"
    with spilling(path, max_bytes=1) as store:
        for number in range(50):
            store[number] = b"%04d" % number + value(number)
        page = bytearray(path.read_bytes())
        place = page.index(b"0030" + value(30)[:9]) // 4096 * 4096
        changed_on_disk(store, path, bytes(page[place : place + 4096]), os.urandom(4096))
        damaged = []
        for number in range(50):
            try:
                assert store[number] == b"%04d" % number + value(number)
            except DamagedEntryError as error:
                damaged.append(error.key)
        assert 30 in damaged
        assert len(damaged) < 10


def test_rows_that_are_gone(tmp_path: Path) -> None:
    """Somebody else has deleted them."""
    with spilling(tmp_path, max_bytes=1) as store:
        store["a"] = value(1)
        store._holding._spill._connection.execute("DELETE FROM entries")
        with pytest.raises(DamagedEntryError, match="entry 'a' is damaged: its row is missing"):
            store["a"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Is no damage: it may pass."""
    with spilling(tmp_path, max_bytes=1) as store:
        store["a"] = value(1)
        connection = store._holding._spill._connection
        connection.execute("ALTER TABLE entries RENAME TO other").close()
        with pytest.raises(SpillError, match="entry 'a' could not be read"):
            store["a"]
        connection.execute("ALTER TABLE other RENAME TO entries").close()
        assert store["a"] == value(1)


def test_a_transaction_that_could_not_be_rolled_back(tmp_path: Path) -> None:
    """Is rolled back when there is something to write again."""
    with spilling(tmp_path, max_bytes=1) as store:
        store["a"] = value(1)
        store._holding._spill._connection.execute("BEGIN")
        store["b"] = value(2)
        assert dict(store) == {"a": value(1), "b": value(2)}


def test_a_python_without_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Can have stores; only spilling is an error."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(SpillError, match="sqlite3"):
        spilling(tmp_path)
    assert CompressedStore({"a": "b"})["a"] == "b"


def test_closed_while_it_is_read(tmp_path: Path) -> None:
    """By another thread: it is closed, and the entry is not called damaged."""
    store = spilling(tmp_path, max_bytes=1)
    store["a"] = value(1)
    slot = store._holding.slots["a"]
    store.close()
    with pytest.raises(NotReadyError, match="closed"):
        store._holding.value_of("a", slot)
