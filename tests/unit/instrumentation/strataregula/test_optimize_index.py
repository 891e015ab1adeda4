"""The lists of the index are read once, and anew when they have changed."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from strataregula_compilers import library, switched_on

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Any]:
    with library("stand-in"), switched_on("index"):
        module = importlib.import_module("strataregula.index.providers.fastindex")
        provider = module.Provider()
        provider._init_cache(tmp_path)
        yield provider


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that are read, as they are."""
    read: list[Path] = []
    bare = Path.read_text

    def read_text(self: Path, *args: Any, **kwargs: Any) -> str:
        read.append(self)
        return bare(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    return read


def age(provider: Any, name: str) -> None:
    """Have a file be written long ago."""
    os.utime(provider._cache_dir / name, (1_000_000, 1_000_000))


FILES = [Path(f"src/{number}.py") for number in range(100)]


def test_a_list_is_read_once(provider: Any, reads: list[Path]) -> None:
    """What is asked for again is what it was, without its file."""
    provider._save_cache("main", FILES)
    age(provider, "main.json")
    for _ in range(3):
        assert provider._load_cache("main") == FILES
    assert len(reads) == 1


def test_a_list_that_has_changed_is_read_anew(provider: Any, reads: list[Path]) -> None:
    """By whoever it was changed, also within the same tick of the clock."""
    provider._save_cache("main", FILES)
    age(provider, "main.json")
    assert provider._load_cache("main") == FILES
    for count in (50, 51, 51, 50):
        provider._save_cache("main", FILES[-count:])
        assert provider._load_cache("main") == FILES[-count:]
    assert len(reads) == 5
    assert len(provider._cache_dir._texts) == 1


def test_a_list_of_the_same_moment(provider: Any) -> None:
    """What was written just now may be written again, as long, and within one tick of the clock."""
    now = time.time_ns()
    for name in ("a.py", "b.py"):
        provider._save_cache("main", [Path(name)])
        os.utime(provider._cache_dir / "main.json", ns=(now, now))
        assert provider._load_cache("main") == [Path(name)]


def test_what_is_not_there(provider: Any) -> None:
    """A file that is gone, and one that is no list, are what they were."""
    provider._save_cache("main", FILES)
    age(provider, "main.json")
    assert provider._load_cache("main") == FILES
    (provider._cache_dir / "main.json").unlink()
    assert provider._load_cache("main") is None
    (provider._cache_dir / "main.json").write_text("no list")
    assert provider._load_cache("main") is None


def test_it_stands_for_the_folder(provider: Any, tmp_path: Path) -> None:
    """Whoever looks at it sees a path."""
    folder = tmp_path / ".cache"
    assert provider._cache_dir == folder
    assert str(provider._cache_dir) == os.fspath(provider._cache_dir) == str(folder)
    assert repr(provider._cache_dir) == repr(folder)
    assert hash(provider._cache_dir) == hash(folder)
    assert provider._cache_dir.name == ".cache"
    file = provider._cache_dir / "main.json"
    file.write_text("é", encoding="utf-8")
    assert file.read_text(encoding="utf-8") == "é"
    assert file == folder / "main.json"
