"""Texts that are made in pieces are the texts that are made as a whole."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strataregula_compilers import outcome_of

from stratatrace.instrumentation.strataregula import optimize_texts
from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs
from stratatrace.instrumentation.strataregula.optimize_texts import (
    KeptText,
    PieceText,
    PieceWriter,
    kept,
    put_together,
    rendered,
)

TEXT = "{\n" + ",\n".join(f"{number}" for number in range(5000)) + "\n}"


def packed_text() -> PieceText:
    pairs = PackedPairs()
    pairs.take((str(number), number) for number in range(5000))
    return PieceText(pairs, lambda part: {"x": "{\n" + ",\n".join(part) + "\n}"}, "x")


@pytest.mark.parametrize(
    "template",
    [
        "{a}",
        "{{a}} is {a} and {b}",
        "{a!s}|{a:}|{b!r:>9}|{b:{c}}",
        "{a:>6000}",
        "{b[0]}{b.real}",
        "{missing}",
        "{}",
        "{0}",
        "{a",
        "a}",
        "{b:d}",
        "",
    ],
)
def test_it_is_what_format_makes_of_it(template: str) -> None:
    """Whatever a template asks for: the same text, or the same error."""
    others: dict[str, Any] = {"b": 3.5, "c": "<8"}
    whole = outcome_of(lambda: template.format(a=TEXT, **others))
    pieces = outcome_of(lambda: put_together(rendered(template, {"a": packed_text(), **others})))
    assert pieces == whole


@given(st.lists(st.sampled_from(["a", "é" * 9, "東\n", "\ud800", "🙂", "x" * 20]), max_size=40))
@settings(max_examples=100, deadline=None)
def test_it_is_what_write_writes(pieces: list[str]) -> None:
    """In pieces or slices, the same bytes are written; none of what cannot be encoded."""
    before, optimize_texts._SLICE = optimize_texts._SLICE, 16
    try:
        text = "".join(pieces)
        written = []
        for given_text in (text, kept(iter(pieces))):
            raw = io.BytesIO()
            with PieceWriter(io.TextIOWrapper(raw, encoding="utf-8")) as file:
                outcome = outcome_of(file.write, given_text)
                file.flush()
                written.append((outcome, raw.getvalue()))
        raw = io.BytesIO()
        with io.TextIOWrapper(raw, encoding="utf-8") as bare:
            expected = outcome_of(bare.write, text)
            bare.flush()
            assert written == [(expected, raw.getvalue())] * 2
    finally:
        optimize_texts._SLICE = before


def test_what_is_kept_takes_little() -> None:
    """What is only written is held compressed until then."""
    text = kept(iter([TEXT] * 100))
    assert isinstance(text, KeptText)
    assert text.pieces.stats().memory_bytes * 3 < 100 * len(TEXT)


def test_what_a_piece_raises() -> None:
    """It is raised before anything is written."""

    def pieces() -> Any:
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kept(pieces())
