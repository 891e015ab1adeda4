"""JSON that is read as a stream is what the standard library makes of it."""

from __future__ import annotations

import io
import json
import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

import ijson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strataregula_compilers import Compiling, library, outcome_of, switched_on

from stratatrace.instrumentation.strataregula import optimize_json
from stratatrace.instrumentation.strataregula.optimize_json import LARGE_BYTES, streaming_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(ijson.backend != "yajl2_c", reason="ijson has no parser in C here")

_BITS = rb"""{|}|[|]|,|:|"a"|"b":|"a":1|1|0|-0|-|01|1.|.5|1.5|1e5|1E400|1e-400|12345678901234567890
12345678901234567890123|9223372036854775807
-9223372036854775808|9223372036854775808|NaN|-Infinity|true|false|null|tru| |//c
/*c*/|'a'|"\u0041"|"\ud83d\ude00"|"\ud800"|"\udc00\ud800"|"\x"|"\/"|"\n"|"\u0000"|0.1|-0.0|5e-324|""
0.30000000000000004|1E+2|1.7976931348623159e308|{"a":{"b":1},"a":2}|["a",1.0,{"k":[1,2,{}]}]|{"":1}"""
bits = [bit for line in _BITS.split(b"\n") for bit in line.split(b"|")]
bits += [b"\n", b"\r\n", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x7f", b'"\t"', b'"\x01"', b"\xff"]
bits += [b'"\xc3\xa9"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf", b'"\xf0\x9f\x98\x80"', b'"\xc0\x80"']
documents = st.one_of(
    st.lists(st.sampled_from(bits), max_size=6).map(b"".join),
    st.recursive(
        st.sampled_from(bits),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda found: b"[" + b",".join(found) + b"]")
            | st.lists(
                st.tuples(st.sampled_from([b'"a"', b'"\\u0041"', b'"b"']), inner), max_size=3
            ).map(lambda found: b"{" + b",".join(key + b":" + each for key, each in found) + b"}")
        ),
    ),
)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize_json, "LARGE_BYTES", 0)
    monkeypatch.setattr(optimize_json, "_PART_BYTES", 7)


class Read:
    """json as a module sees it, and how often the function that was there before was called."""

    def __init__(self) -> None:
        self.bare_calls = 0
        module = ModuleType("json")
        vars(module).update(vars(json))
        module.load = self._bare  # type: ignore[attr-defined]
        replaced = streaming_json(module, {"json": module})
        assert replaced is not None
        self.json = replaced["json"]

    def _bare(self, file: Any, **options: Any) -> Any:
        self.bare_calls += 1
        return json.load(file, **options)

    def file(self, path: Path) -> Any:
        with path.open(encoding="utf-8") as file:
            return self.json.load(file)


def bare_file(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return json.load(file)


@given(documents)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.usefixtures("everything_is_large")
def test_it_is_the_same(tmp_path: Path, document: bytes) -> None:
    """Whatever a file has in it: the same, or the same error."""
    path = tmp_path / "a.json"
    path.write_bytes(document)
    assert repr(outcome_of(Read().file, path)) == repr(outcome_of(bare_file, path))


@pytest.mark.usefixtures("everything_is_large")
def test_it_is_read_as_a_stream(tmp_path: Path) -> None:
    """The other one is not called for what configurations are made of; keys are one object."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"name": "é", "value": [1, 2.5, None]}] * 3, ensure_ascii=False))
    read = Read()
    loaded = read.file(path)
    assert loaded == bare_file(path)
    assert read.bare_calls == 0
    assert len({id(key) for each in loaded for key in each}) == 2


@pytest.mark.usefixtures("everything_is_large")
def test_what_is_left_to_json(tmp_path: Path) -> None:
    """Deep documents, options, what was begun, and what is no file of UTF-8."""
    read = Read()
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 60 + "]" * 60)
    assert read.file(deep) == bare_file(deep)
    with deep.open(encoding="utf-8") as file:
        assert read.json.load(file, parse_float=str) == bare_file(deep)
    with deep.open(encoding="utf-8") as file:
        file.read(1)
        with pytest.raises(json.JSONDecodeError):
            read.json.load(file)
    with deep.open(encoding="latin-1") as file:
        read.json.load(file)
    with deep.open("rb") as file:
        read.json.load(file)
    assert read.json.load(io.StringIO("[1]")) == [1]
    assert read.bare_calls == 6


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("offset", range(12))
def test_half_a_pair_is_seen_wherever_it_is(tmp_path: Path, offset: int) -> None:
    """Also where it is read in two parts."""
    path = tmp_path / "a.json"
    path.write_text(f'[{" " * offset}"\\ud800"]')
    assert Read().file(path) == bare_file(path) == ["\ud800"]


def test_small_files_are_left_to_json(tmp_path: Path) -> None:
    """What is not large is read as it was, and what is, is not."""
    path = tmp_path / "a.json"
    read = Read()
    path.write_text("[1]")
    read.file(path)
    assert read.bare_calls == 1
    path.write_text(f"[{'1,' * (LARGE_BYTES // 2)}1]")
    read.file(path)
    assert read.bare_calls == 1


def test_who_replaces_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who puts a function of their own in the place of json's has it called."""
    read = Read()
    monkeypatch.setattr(read.json._module, "load", lambda _file: "theirs")
    path = tmp_path / "a.json"
    path.write_text("[1]")
    assert read.file(path) == "theirs"


def test_others_of_its_parsers_are_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ijson parses in Python, nothing is replaced."""
    monkeypatch.setattr(ijson, "backend", "python")
    assert streaming_json(json, {"json": json}) is None


@pytest.fixture
def stand_in() -> Iterator[None]:
    with library("stand-in"):
        yield


@pytest.mark.usefixtures("everything_is_large", "stand_in")
def test_a_compile_is_the_same(tmp_path: Path) -> None:
    """A configuration in JSON is compiled to the same bytes."""
    inputs = Compiling(tmp_path / "in", {"traffic.json": json.dumps({"edge.*": 1, "é.*": [2.5]})})
    bare = inputs.outcomes(level=logging.DEBUG)
    with switched_on("json"):
        assert inputs.outcomes(level=logging.DEBUG) == bare
