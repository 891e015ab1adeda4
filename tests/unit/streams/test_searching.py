"""Patterns: what is taken for one, how far it can look, and how it is read in one pass."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import MappedFile
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.streams import Match, reading
from stratatrace.streams.patterns import extent_of

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = reading.WINDOW_BYTES
INF = math.inf


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f"


@pytest.mark.parametrize(
    ("text", "ahead", "newlines", "behind"),
    [
        (rb"abc", 3, 0, 1),
        (rb"a\nb", 3, 1, 1),
        (rb"a|bcd|\n", 3, 1, 1),
        (rb"a{2,5}?", 5, 0, 1),
        (rb"a*", INF, 0, 1),
        (rb".*", INF, 0, 1),
        (rb"(?s).*", INF, INF, 1),
        (rb"(?s:.*)", INF, INF, 1),
        (rb"(?s)(?-s:.*)", INF, 0, 1),
        (rb".*\n.*\n", INF, 2, 1),
        (rb"(?:.*\n){1,3}", INF, 3, 1),
        (rb"\s*", INF, INF, 1),
        (rb"\S*\w+\d*", INF, 0, 1),
        (rb"\W+", INF, INF, 1),
        (rb"[^\n]*", INF, 0, 1),
        (rb"[^a]*", INF, INF, 1),
        (rb"[a-z\s]*", INF, INF, 1),
        (rb"[\x00-\x20]*", INF, INF, 1),
        (rb"[^\s]*[^\W]*", INF, 0, 1),
        (rb"a(?=bcd)", 4, 0, 1),
        (rb"a(?!.*\n)", INF, 1, 1),
        (rb"(?<=abc)d", 4, 0, 4),
        (rb"(?<!\bab)d", 3, 0, 3),
        (rb"(ab)(?P<n>c)\1(?P=n)", 6, 0, 1),
        (rb"(a+)\1", INF, 0, 1),
        (rb"(a)?b(?(1)cd|\n)", 4, 1, 1),
        (rb"(?>ab|c)d++", INF, 0, 1),
        (rb"(?m)^\ba\B$\Z", 1, 0, 1),
        (rb"(?x) a b # c", 2, 0, 1),
        (rb"(?i)\n", 1, 1, 1),
        (rb"", 0, 0, 1),
    ],
)
def test_how_far_an_expression_looks(
    text: bytes, ahead: float, newlines: float, behind: float
) -> None:
    """By its parsed form: bytes ahead, ends of lines among them, bytes behind."""
    extent = extent_of(re.compile(text))
    assert extent[:2] == (ahead, newlines)
    assert extent.behind >= behind
    assert extent.behind <= behind + 1


def test_flags_from_outside_count() -> None:
    """Also those that are given to `compile`."""
    assert extent_of(re.compile(b".*", re.DOTALL)).newlines == INF
    assert extent_of(re.compile(b"a # .*", re.VERBOSE)).ahead == 1


def test_an_expression_that_cannot_be_looked_into_is_unbounded(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """And is found all the same, where it is no longer than is allowed."""
    pattern = re.compile(rb"(?<!x)ab?")
    monkeypatch.delattr("re._parser.parse")
    assert set(extent_of(pattern)) == {INF}
    path.write_bytes(b"." * (WINDOW - 1) + b"ab" + b"." * 5 * WINDOW + b"xab")
    with MappedFile(path) as file:
        assert list(file.find_all(pattern)) == [WINDOW - 1]


def test_matches_across_borders(path: Path) -> None:
    """Those of real windows, for both kinds of pattern."""
    data = bytearray(b"." * 3 * WINDOW)
    places = [0, WINDOW - 6, 2 * WINDOW - 1, 3 * WINDOW - 6]
    for place in places:
        data[place : place + 6] = b"needle"
    path.write_bytes(data)
    with MappedFile(path) as file:
        assert list(file.find_all(b"needle")) == places
        for text in (b"needle", b"n[a-z]+", b"n(?s:.{0,3})le", rb"(?s)n.*?le", rb"\bneedle\b"):
            assert list(file.find_all(re.compile(text))) == places, text


def test_a_match_longer_than_a_window(path: Path) -> None:
    """Of a bounded expression, of lines, and of one with a length that is given."""
    path.write_bytes(b"..<" + b"x" * (3 * WINDOW) + b">..")
    with MappedFile(path) as file:
        for text in (rb"<x{3000000,4000000}>", rb"<.*>", rb"(?s)<.*>", rb"<[^>]*>"):
            (match,) = file.find_all([re.compile(text)], longest_match="4MiB")
            assert (match.offset, match.end) == (2, 4 + 3 * WINDOW), text
        needle = b"<" + b"x" * (2 * WINDOW)
        assert list(file.find_all(needle)) == [2]


def test_overlapping(path: Path) -> None:
    """A match may begin in the one before, where that is asked for."""
    path.write_bytes(b"aaaa-aba")
    with MappedFile(path) as file:
        assert list(file.find_all(b"aa")) == [0, 2]
        assert list(file.find_all(b"aa", overlapping=True)) == [0, 1, 2]
        expression = re.compile(b"a[ab]a?")
        assert list(file.find_all(expression)) == [0, 5]
        assert list(file.find_all(expression, overlapping=True)) == [0, 1, 2, 5]


def test_many_patterns_give_matches(path: Path) -> None:
    """By offset, then in the order of the patterns, each with the very pattern that was given."""
    path.write_bytes(b"abcab")
    word, letter = re.compile(b"[abc]+"), b"b"
    with MappedFile(path) as file:
        assert list(file.find_all([letter, word, b"ab"])) == [
            Match(0, 5, word),
            Match(0, 2, b"ab"),
            Match(1, 2, letter),
            Match(3, 5, b"ab"),
            Match(4, 5, letter),
        ]
        assert list(file.find_all(iter([letter]))) == [Match(1, 2, b"b"), Match(4, 5, b"b")]


def test_offsets_are_found_as_they_are_asked_for(path: Path) -> None:
    """Nothing is read before, and no more windows than are needed."""
    path.write_bytes(b"x" * (4 * WINDOW))
    with MappedFile(path) as file:
        found = file.find_all(b"x", overlapping=True)
        assert list(islice(found, 3)) == [0, 1, 2]
        path.write_bytes(b"")
        # What is in memory already can be had.
        assert next(found) == 3


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("text", InvalidTypeError, r"holds bytes, and 'text' is text: give b'text'"),
        (re.compile("é"), InvalidTypeError, r"compile it from bytes, re.compile\(b'"),
        (["text"], InvalidTypeError, "'text' is text"),
        (b"", InvalidValueError, "must not be empty: it would be found everywhere"),
        ([b"a", b""], InvalidValueError, "must not be empty"),
        ([], InvalidValueError, "no pattern to look for"),
        (3, InvalidTypeError, "or a list of them, not 3"),
        (memoryview(b"a"), InvalidTypeError, "or a list of them, not <memory"),
        ([3], InvalidTypeError, "bytes or a compiled regular expression of bytes, not 3"),
    ],
)
def test_what_is_no_pattern(path: Path, pattern: Any, error: type[Exception], message: str) -> None:
    """It is told when it is given, and not when the file is read."""
    path.touch()
    with MappedFile(path) as file, pytest.raises(error, match=message):
        file.find_all(pattern)


def test_a_bytearray_is_what_it_was(path: Path) -> None:
    """It may change while the file is searched."""
    path.write_bytes(b"abab")
    needle = bytearray(b"ab")
    with MappedFile(path) as file:
        found: Any = file.find_all(needle)  # type: ignore[arg-type] # it is taken, too
        needle[:] = b"xx"
        assert list(found) == [0, 2]
