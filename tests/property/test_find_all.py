"""Searching a file in windows of any size finds what searching all of it at once does."""

from __future__ import annotations

import random
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stratatrace import MappedFile
from stratatrace.errors import RecordTooLongError
from stratatrace.streams import reading, searching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.streams.patterns import Pattern

ALPHABET = b"a\nbx \xff"


def _drawn(seed: int, count: int, kinds: int) -> bytes:
    return bytes(random.Random(seed).choices(ALPHABET[:kinds], k=count))


# Long ones, which go over many borders, and short ones, which are easy to read where one fails.
contents = st.builds(
    _drawn, st.integers(0, 2**32), st.integers(0, 300), st.integers(2, len(ALPHABET))
) | st.lists(st.sampled_from(list(ALPHABET)), max_size=40).map(bytes)
windows = st.integers(1, 80)

#: Bounded, so that any window that has room for them is right.
bounded = (
    rb"a",
    rb"ab?",
    rb"(?<=b)a",
    rb"(?<!ab)a(?!b)",
    rb"(?m)^a",
    rb"\Aa",
    rb"(?m)a$",
    rb"a$",
    rb"a\Z",
    rb"\ba",
    rb"a\Bb",
    rb"a(?=bb|\n)",
    rb"a[^x]{0,7}b",
    rb"(?s)a.{3}",
    rb"(a|b\n)\1",
    rb"(x)?a(?(1)b|\n)",
    rb"(?>a{1,3})b",
    rb"a{2,4}+b?",
    rb"(?m)^",
    rb"\b",
    rb"(?=ab)",
    rb"",
)
#: Of any length, in so many lines.
of_lines = (
    rb"a+",
    rb"a*",
    rb"a.*b",
    rb"a.*?b",
    rb"(?m)^.*x",
    rb"[^\n]+",
    rb"\w+",
    rb"\S+ ",
    rb"a.*\n.*b",
    rb"a(?=.*b)",
    rb"a(?!.*b)",
    rb"(?:.*\n){2}a",
    rb"(?:a|x\n?)+?b(?<!x\nb)\n",
)
#: Of any length, in any number of lines.
unbounded = (rb"a\s+b", rb"(?s)a.*?b", rb"a[^b]*b", rb"a(?=\s*b)", rb"(?:a|\n)+")

literals = st.lists(st.sampled_from(list(ALPHABET)), min_size=1, max_size=6).map(bytes)


@contextmanager
def opened(data: bytes, window: int) -> Iterator[MappedFile]:
    """Open a file of *data* that is read in windows of that many bytes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(searching, "WINDOW_BYTES", window),
        mock.patch.object(reading, "WINDOW_BYTES", window),
    ):
        path = Path(folder) / "file"
        path.write_bytes(data)
        with MappedFile(path) as file:
            yield file


def truth(data: bytes, pattern: Pattern, *, overlapping: bool) -> list[tuple[int, int]]:
    """Return the spans that are found in all of *data*, by the simplest means."""
    if isinstance(pattern, bytes):
        pattern = re.compile(re.escape(pattern))
    if not overlapping:
        return [match.span() for match in pattern.finditer(data)]
    starts = range(len(data) + 1)
    # Not `match` at each start: what is searched for is found at the first place that it can be.
    spans = [found.span() for start in starts if (found := pattern.search(data, start))]
    return sorted(set(spans), key=lambda span: span[0])


@settings(deadline=None, max_examples=400)
@given(contents, literals, windows, st.booleans())
def test_literals(data: bytes, needle: bytes, window: int, overlapping: bool) -> None:
    with opened(data, window) as file:
        found = list(file.find_all(needle, overlapping=overlapping))
    assert found == [start for start, _ in truth(data, needle, overlapping=overlapping)]


# What is looked at behind a match is bounded by the pattern, too.
@example(data=_drawn(708878246, 53, 3), text=rb"(?<!ab)a(?!b)", window=29, overlapping=False)
@settings(deadline=None, max_examples=600)
@given(contents, st.sampled_from(bounded), windows, st.booleans())
def test_bounded_expressions(data: bytes, text: bytes, window: int, overlapping: bool) -> None:
    pattern = re.compile(text)
    with opened(data, window) as file:
        # Their own bounds count, and not this one.
        found = list(file.find_all([pattern], overlapping=overlapping, longest_match=1))
    spans = [(match.offset, match.end) for match in found]
    assert spans == truth(data, pattern, overlapping=overlapping)


@settings(deadline=None, max_examples=600)
@given(contents, st.sampled_from(of_lines), windows, st.booleans())
def test_expressions_of_lines(data: bytes, text: bytes, window: int, overlapping: bool) -> None:
    """Where no line is longer than is allowed."""
    pattern = re.compile(text)
    with opened(data, window) as file:
        found = list(file.find_all([pattern], overlapping=overlapping, longest_match=301))
    spans = [(match.offset, match.end) for match in found]
    assert spans == truth(data, pattern, overlapping=overlapping)


@settings(deadline=None, max_examples=600)
@given(contents, st.sampled_from(unbounded + of_lines), windows, st.integers(1, 40))
def test_expressions_without_bounds(data: bytes, text: bytes, window: int, longest: int) -> None:
    """All is found, or it is an error, where what is found is no longer than is allowed.

    What the search has to look at to find a match, or that there is none, is bounded by the runs
    between the bytes that can end it.
    """
    pattern = re.compile(text)
    expected = truth(data, pattern, overlapping=False)
    looked_at = max((len(run) for run in re.split(rb"(?<=b)", data)), default=0)
    if text in unbounded[:4] and looked_at < longest:
        with opened(data, window) as file:
            found = list(file.find_all([pattern], longest_match=longest))
        assert [(match.offset, match.end) for match in found] == expected
    elif any(end - start > longest for start, end in expected):
        with opened(data, window) as file:
            try:
                found = list(file.find_all([pattern], longest_match=longest))
            except RecordTooLongError:
                return
        assert all(match.end - match.offset <= longest for match in found)


@settings(deadline=None, max_examples=300)
@given(
    contents,
    st.lists(
        st.sampled_from(bounded + of_lines).map(re.compile) | literals, min_size=1, max_size=5
    ),
    windows,
    st.booleans(),
)
def test_many_patterns(
    data: bytes, patterns: list[Pattern], window: int, overlapping: bool
) -> None:
    """Each is found as alone, and all by offset, then in their order, from one pass."""
    with opened(data, window) as file:
        found = list(file.find_all(patterns, overlapping=overlapping, longest_match=301))
    expected = [
        (start, which, end)
        for which, pattern in enumerate(patterns)
        for start, end in truth(data, pattern, overlapping=overlapping)
    ]
    named = [(start, end, patterns[which]) for start, which, end in sorted(expected)]
    assert [tuple(match) for match in found] == named


@settings(deadline=None, max_examples=200)
@given(contents, windows, st.integers(1, 100))
def test_chunks_and_lines(data: bytes, window: int, size: int) -> None:
    with opened(data, window) as file:
        assert [bytes(line) for line in file.lines(keepends=True)] == [
            line for line in re.split(rb"(?<=\n)", data) if line
        ]
        chunks = [bytes(chunk) for chunk in file.chunks(size)]
        assert chunks == [data[at : at + size] for at in range(0, len(data), size)]


def test_a_match_that_is_too_long_is_an_error() -> None:
    """And is told with its place."""
    pattern = re.compile(rb"(?s)<.*?>")
    with opened(b"<ok>" + b"<" + b"x" * 98 + b">", 16) as file:
        assert list(file.find_all(pattern, longest_match=100)) == [0, 4]
        found = file.find_all(pattern, longest_match=99)
        assert next(found) == 0
        with pytest.raises(RecordTooLongError, match="at offset 4 is longer than 99 bytes: bound"):
            list(found)
