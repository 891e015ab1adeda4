"""Descriptions of callsites, and the options that a user may give."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from stratatrace.callsites import Options, describe_block, describe_function
from stratatrace.errors import StratatraceError


class Callable_:  # noqa: N801 -- the name is what is described
    """Something that can be called."""

    def __call__(self) -> None:
        """Do nothing."""

    def method(self) -> None:
        """Do nothing."""


def function() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (function, f"{__name__}.function"),
        (Callable_.method, f"{__name__}.Callable_.method"),
        (Callable_().method, f"{__name__}.Callable_.method"),
        (Callable_(), f"{__name__}.Callable_.__call__"),
        (functools.partial(functools.partial(function)), f"{__name__}.function"),
        (functools.lru_cache(function), f"{__name__}.function"),
        (len, "builtins.len"),
        (str.upper, "builtins.str.upper"),
        ("a".upper, "builtins.str.upper"),
    ],
)
def test_functions_are_described_by_their_full_names(target: Any, name: str) -> None:
    """Whatever stands around them; what was not written in Python has no file and no line."""
    callsite = describe_function(target, Options())
    assert callsite.function == name
    assert callsite.name == name.removeprefix(f"{__name__}.").removeprefix("builtins.")
    assert callsite.label is None
    if name.startswith("builtins"):
        assert (callsite.file, callsite.line) == (None, None)
    else:
        assert callsite.file == __file__
        assert callsite.line is not None


def test_options_are_part_of_the_description() -> None:
    """A name is the span's; the function keeps its own."""
    options = Options(
        name="nightly", attributes={"team": "search"}, budget="1 KiB", sample_ratio=0.5
    )
    callsite = describe_function(function, options)
    assert (callsite.name, callsite.label) == ("nightly", "nightly")
    assert callsite.function == f"{__name__}.function"
    assert dict(callsite.attributes) == {"team": "search"}
    assert (callsite.budget_bytes, callsite.sample_ratio) == (1024, 0.5)


def test_options_under_another_name() -> None:
    """Everything else stays, and the original too."""
    options = Options(name="one", budget=5)
    other = options.named("two")
    assert (options.name, other.name, other.budget_bytes) == ("one", "two", 5)


def test_attributes_are_taken_when_they_are_given() -> None:
    """What happens to the mapping afterwards does not change the callsite."""
    given: dict[str, str | bool | int | float] = {"team": "search"}
    options = Options(attributes=given)
    given["team"] = "other"
    assert options.attributes["team"] == "search"


@pytest.mark.parametrize(
    ("given", "builtin", "says"),
    [
        ({"name": 5}, TypeError, "a name is text, not 5"),
        ({"name": ""}, ValueError, "must not be empty"),
        ({"attributes": [("a", 1)]}, TypeError, "attributes is a mapping"),
        ({"attributes": {1: "a"}}, TypeError, "1: 'a' is not"),
        ({"attributes": {"a": None}}, TypeError, "'a': None is not"),
        ({"attributes": {"a": ["b"]}}, TypeError, r"'a': \['b'\] is not"),
        ({"budget": "much"}, ValueError, "'much' is not a size"),
        ({"budget": 0}, ValueError, "greater than zero"),
        ({"budget": 1.5}, TypeError, "not 1.5"),
        ({"sample_ratio": 2}, ValueError, "from 0 to 1, and 2 is not"),
        ({"sample_ratio": "all"}, TypeError, "from 0 to 1, not 'all'"),
    ],
)
def test_a_wrong_option_is_told(given: dict[str, Any], builtin: type[Exception], says: str) -> None:
    """What was given, what was expected; ours and the fitting builtin."""
    with pytest.raises(builtin, match=says) as caught:
        Options(**given)
    assert isinstance(caught.value, StratatraceError)


def test_a_block_is_one_callsite_for_one_place() -> None:
    """Entered in a loop it is described once; elsewhere, or under another name, it is another."""
    code = function.__code__
    first = describe_block("app", code, 3, None, None, None)
    assert describe_block("app", code, 3, None, None, None) is first
    assert describe_block("app", code, 4, None, None, None) is not first
    named = describe_block("app", code, 3, "merge", 10, 0.5)
    assert (first.name, first.function, first.line) == ("app.function", "app.function", 3)
    assert (named.name, named.label, named.function) == ("merge", "merge", "app.function")
    assert (named.budget_bytes, named.sample_ratio) == (10, 0.5)


def test_a_block_in_a_module_is_named_by_the_module() -> None:
    """There is no function around it."""
    code = compile("pass", "app.py", "exec")
    assert describe_block("app", code, 1, None, None, None).function == "app"


def test_the_main_module_of_a_worker_has_the_name_of_its_parents() -> None:
    """A function and a block are one callsite in all processes of a program."""
    namespace: dict[str, Any] = {"__name__": "__mp_main__"}
    exec("def work(): pass", namespace)
    assert describe_function(namespace["work"], Options()).function == "__main__.work"
    code = namespace["work"].__code__
    assert describe_block("__mp_main__", code, 1, None, None, None).function == "__main__.work"
