"""YAML that is read by the parser in C is what the parser in Python makes of it."""

from __future__ import annotations

import io
import os
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strataregula_compilers import outcome_of

from stratatrace.instrumentation.strataregula.optimize_yaml import fast_yaml

if TYPE_CHECKING:
    from pathlib import Path

_BITS = """a|b: 1|- |  |\n|\n\n|: |?| #c|#|'|"|\\|x|*|&a|!|!!str |>|> |%|@|`|{|}|[|]|,|0.05|1e3|~
null|yes|on|0x1f|0o7|017|1_0|1:30|2024-01-01|<<|=|---|...|--- |é|東|🙂|:|::|a:b|a:\n  b|- -
- a\n- b|key: val\n|  key: val\n|'a''b'|"a\\n"|"\\x41"|"\\/"|"\\ud800"|--|-a|? a\n: b\n|.inf|.nan
edge.*.gateway|"edge.*": 0.3\n|\xa0| \n|k: >\n  t\n|k: |{a: 1, b: [1,2]}|{a:b}|!a|*a|&a b|k: - a\n
\t|\r|\x85|\u2028|\ufeff|\x00|\x07|\ufffe|%YAML 1.1\n|k: "a\n\n  b"\n|k: a\n  b\n|1.|+1|-0|0x"""
bits = [bit for line in _BITS.split("\n") for bit in line.split("|")]
bits += ["\n", "|\n", "k: |\n a\n", "a" * 1030 + ": 1\n", "é" * 600 + ": 1\n", "1" * 5000]
texts = st.one_of(
    st.lists(st.sampled_from(bits), max_size=9).map("".join),
    st.recursive(
        st.one_of(st.text(max_size=8), st.floats(), st.integers(), st.booleans(), st.none()),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
    ).map(yaml.safe_dump),
)


class Read:
    """PyYAML as a module sees it, and how often the function that was there before was called."""

    def __init__(self) -> None:
        self.bare_calls = 0
        module = ModuleType("yaml")
        vars(module).update(vars(yaml))
        module.safe_load = self._bare  # type: ignore[attr-defined]
        replaced = fast_yaml(module, {"yaml": module})
        assert replaced is not None
        self.yaml = replaced["yaml"]

    def _bare(self, stream: Any) -> Any:
        self.bare_calls += 1
        return yaml.safe_load(stream)


def same(loaded: Any) -> Any:
    """Tell apart what is equal and of different types, and not two that are no number."""
    return repr(loaded)


@given(texts)
@settings(max_examples=150, deadline=None)
def test_it_is_the_same(text: str) -> None:
    """Whatever it reads, from a text or a file: the same, or the same error."""
    bare, fast = outcome_of(yaml.safe_load, text), outcome_of(Read().yaml.safe_load, text)
    assert same(fast) == same(bare)
    bare = outcome_of(yaml.safe_load, io.StringIO(text))
    fast = outcome_of(Read().yaml.safe_load, io.StringIO(text))
    assert same(fast) == same(bare)


def test_the_parser_in_c_does_the_ordinary() -> None:
    """The other one is not called for what configurations are made of."""
    text = (
        "service_times:\n  'edge.*.api': 0.03  # Each.\n  é.b: [1, {c: ~}]\n  東: 'x'\nlist:\n- 1\n"
    )
    read = Read()
    assert same(read.yaml.safe_load(text)) == same(yaml.safe_load(text))
    assert read.yaml.safe_load("") is None
    assert read.bare_calls == 0
    assert read.yaml.safe_load("a: &x 1\nb: *x\n") == {"a": 1, "b": 1}
    assert read.bare_calls == 1


@pytest.mark.parametrize(
    "text",
    [
        "|#",
        "k: >-#c\n",
        "k: |\n a\n",
        "!",
        "k: ! a",
        "%YAML 1.1\n---\na: 1\n",
        "a:\t1",
        "a: b\t",
        "key: val\n\ufeff",
        "a: b\x85c: d",
        "a\u2028b: c",
        "a: &x 1",
        "a: 2024-01-01",
        "<<: {a: 1}",
        "? [a]\n: b",
        "a\n---\nb",
        "[" * 21 + "]" * 21,
    ],
)
def test_what_is_doubtful_is_left_to_the_other(text: str) -> None:
    """What one parser takes and the other does not, or might take otherwise."""
    read = Read()
    assert same(outcome_of(read.yaml.safe_load, text)) == same(outcome_of(yaml.safe_load, text))
    assert read.bare_calls == 1


def test_deep_documents_fail_as_they_did() -> None:
    """Where the parser in Python gives up, so does this."""
    text = "[" * 1000 + "]" * 1000
    with pytest.raises(RecursionError):
        Read().yaml.safe_load(text)


def test_what_is_taught_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags, resolvers and constructors of the user's own are as they were."""

    class Own(yaml.SafeLoader):
        pass

    read = Read()
    with monkeypatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", Own)
        patch.setattr(read.yaml._module, "SafeLoader", Own)
        Own.add_constructor("tag:yaml.org,2002:str", lambda _loader, node: node.value.upper())
        assert read.yaml.safe_load("a: b") == yaml.load("a: b", Own) == {"A": "B"}
    with monkeypatch.context() as patch:
        floats = dict(yaml.constructor.SafeConstructor.yaml_constructors)
        floats["tag:yaml.org,2002:float"] = lambda _loader, _node: 7.5
        patch.setattr(yaml.constructor.SafeConstructor, "yaml_constructors", floats)
        patch.setattr(yaml.SafeLoader, "yaml_constructors", floats)
        assert read.yaml.safe_load("a: 1.5") == yaml.safe_load("a: 1.5") == {"a": 7.5}


def test_a_replaced_function_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who puts a function of their own in the place of PyYAML's has it called."""
    read = Read()
    monkeypatch.setattr(read.yaml._module, "safe_load", lambda _stream: "theirs")
    assert read.yaml.safe_load("a: 1") == "theirs"


def test_a_stream_is_read_from_where_it_is() -> None:
    """A stream that was begun, bytes, and what cannot be read twice."""
    read = Read()
    for text in ("skipped\na: 1\n", "skipped\na: &x 1\n"):
        stream = io.StringIO(text)
        stream.readline()
        assert read.yaml.safe_load(stream) == {"a": 1}
    assert read.yaml.safe_load(b"a: 1") == {"a": 1}
    inlet, outlet = os.pipe()
    writer = threading.Thread(target=os.write, args=(outlet, b"a: &x 1\n"))
    writer.start()
    writer.join()
    os.close(outlet)
    with os.fdopen(inlet, encoding="utf-8") as piped:
        assert read.yaml.safe_load(piped) == {"a": 1}


def test_a_file_that_is_read_by_lines(tmp_path: Path) -> None:
    """Its place is not known, and it is read as it was."""
    path = tmp_path / "a.yaml"
    path.write_text("skipped\na: 1\n")
    with path.open(encoding="utf-8") as stream:
        next(stream)
        assert Read().yaml.safe_load(stream) == {"a": 1}


def test_the_rest_of_the_module_is_there() -> None:
    """It stands for PyYAML in everything else."""
    read = Read()
    assert read.yaml.dump is yaml.dump
    assert read.yaml.YAMLError is yaml.YAMLError
    with pytest.raises(AttributeError):
        _ = read.yaml.unheard_of
