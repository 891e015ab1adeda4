"""The progress bar: drawn without a thread, never in the way, and asked for where it is missing."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stratatrace import adaptive_chunks, adaptive_chunks_async, process_stream
from stratatrace.config import Config
from stratatrace.errors import MissingExtraError
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    with recording(Config(probe="rss")):
        yield


def test_it_tells_the_items(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all, where it is known how many there are; by the stream's name or another label."""
    before = threading.active_count()
    for _ in adaptive_chunks(range(250), 100, progress=True, name="rows"):
        assert threading.active_count() == before
    shown = capsys.readouterr()
    assert "rows" in shown.err
    assert "250/250" in shown.err
    assert not shown.out
    list(process_stream((number for number in range(77)), sum, 50, progress="all rows"))
    shown = capsys.readouterr()
    assert "all rows" in shown.err
    assert "77/?" in shown.err


def test_async_streams_have_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Which ends where they are closed early."""

    async def source() -> AsyncIterator[int]:
        for number in range(250):
            yield number

    async def main() -> None:
        async with adaptive_chunks_async(source(), 100, progress=True) as chunks:
            await anext(chunks)

    asyncio.run(main())
    assert "100/?" in capsys.readouterr().err


def test_two_at_once_are_one(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The screen has room for one: the other stream goes on without."""
    with recording(Config(probe="rss"), strict=False):
        outer = adaptive_chunks(range(20), 10, progress="outer")
        next(outer)
        assert sum(map(len, adaptive_chunks(range(30), 10, progress="inner"))) == 30
        outer.close()
    assert "outer" in capsys.readouterr().err
    assert all("draw a progress bar" in record.getMessage() for record in caplog.records)


class Broken(io.StringIO):
    """A screen that cannot be written to."""

    def write(self, _text: str) -> int:
        msg = "no space left on device"
        raise OSError(msg)


def test_a_screen_that_fails_does_not_reach_the_program(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The bar is given up, which is told once."""
    monkeypatch.setattr(sys, "stderr", Broken())
    with recording(Config(probe="rss"), strict=False):
        chunks = list(adaptive_chunks(range(250), 100, progress=True))
        assert active.recorder.guard.failures
    assert sum(map(len, chunks)) == 250
    assert [record.getMessage()[:42] for record in caplog.records] == [
        "stratatrace could not draw a progress bar "
    ]


def test_without_rich_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says how to have it; nothing else needs it."""
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stratatrace\[cli\]'"):
        adaptive_chunks([], progress=True)
    assert list(adaptive_chunks([1])) == [[1]]
