"""Sizes: text to bytes and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.errors import StratatraceError
from stratatrace.sizes import format_size, parse_size

UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


@given(st.integers(min_value=1, max_value=2**70))
def test_bytes_are_what_they_are(size: int) -> None:
    """An int, and its digits as text, are that many bytes, exactly."""
    assert parse_size(size) == size
    assert parse_size(str(size)) == size
    assert parse_size(f"{size} B") == size


@given(
    st.integers(min_value=1, max_value=10**9),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from([str, str.lower, str.upper]),
)
def test_every_unit_in_any_spelling(amount: int, unit: str, space: str, spelled: Any) -> None:
    """Units are recognised in any case, with and without space, and multiply exactly."""
    assert parse_size(f" {amount}{space}{spelled(unit)} ") == amount * UNITS[unit]


@given(st.integers(min_value=1, max_value=2**60))
def test_what_is_formatted_parses_back(size: int) -> None:
    """A size for people is within a twentieth of a unit of the size that it was made from."""
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@given(st.integers(min_value=-(2**49), max_value=2**49))
def test_a_size_for_people_is_short_and_signed(size: int) -> None:
    """It has a sign where the size is negative, and no more than four digits before the point."""
    text = format_size(size)
    assert text.startswith("-") is (size < 0)
    assert len(text.strip("-").split(" ")[0].split(".")[0]) <= 4


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (-1536, "-1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
    ],
)
def test_known_sizes_for_people(size: int, text: str) -> None:
    """Powers of 1024, one digit after the point, and never as many as 1024 of a unit."""
    assert format_size(size) == text


def test_fractions_are_rounded_to_bytes() -> None:
    """Text such as "1.5 MB" is a size."""
    assert parse_size("1.5 MB") == 1_500_000
    assert parse_size("0.5KiB") == 512


@pytest.mark.parametrize(
    "size", ["", "MB", "1 XB", "1,5MB", "-1MB", "1e3", "ten", "1 MB 2", "٣MB", "0", 0, -5, "0.2B"]
)
def test_what_is_no_size_is_told(size: Any) -> None:
    """The error is ours and a ValueError, and shows what was given."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_size(size)
    assert isinstance(caught.value, StratatraceError)
    assert repr(size) in str(caught.value)


@pytest.mark.parametrize("size", [None, 1.5, True, b"1MB", [1]])
def test_what_is_not_even_text_is_told(size: Any) -> None:
    """The error is ours and a TypeError, shows what was given and says what was expected."""
    with pytest.raises(TypeError, match="int of bytes or text like '200MB'") as caught:
        parse_size(size)
    assert isinstance(caught.value, StratatraceError)
    assert repr(size) in str(caught.value)


def test_an_absurd_number_is_no_crash() -> None:
    """More digits than a float holds are read, or refused as misuse, and nothing else."""
    try:
        assert parse_size("9" * 400) == int("9" * 400)
    except StratatraceError:
        return
