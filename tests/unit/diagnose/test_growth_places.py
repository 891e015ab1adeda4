"""What function and what package a line is of."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.diagnose.growth_names import function_names, named_lines, named_stacks
from stratatrace.diagnose.growth_packages import Packages
from stratatrace.stacks import Frame, LineGrowth, StackGrowth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SOURCE = '''\
"""A module."""
import functools
FIRST = 1

def outer():
    """Text."""
    def inner(
        first=1,
    ):
        return [
            number
            for number in range(9)
        ]
    return inner(), lambda: \\
        1

class Kind:
    field = "\\d"

    async def method(self): return 1

    @property
    def value(self):
        return 2

    @staticmethod
    def apart():
        return 3

@functools.wraps(outer)
def wrapping():
    return 4

def hiding(function):
    @functools.wraps(function)
    def wrapper():
        return function()
    return wrapper

@hiding
def hidden():
    return 5
'''
NAMES = {
    8: "outer",
    10: "outer.<locals>.inner",
    11: "outer.<locals>.inner",
    14: "outer",
    15: "outer",
    20: "Kind.method",
    24: "Kind.value",
    28: "Kind.apart",
    32: "wrapping",
    37: "hiding.<locals>.wrapper",
    42: "hidden",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the source, with nothing compiled beside it."""
    (tmp_path / "named_places.py").write_text(SOURCE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.warns(SyntaxWarning if sys.version_info >= (3, 12) else DeprecationWarning):
        module = importlib.import_module("named_places")
    yield module
    sys.modules.pop("named_places", None)


def compiled(file: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Path(py_compile.compile(file, doraise=True) or "")


def names_of(file: str, lines: range) -> dict[int, str]:
    found = function_names((file, line) for line in lines)
    return {line: found[file, line] for line in lines}


def test_functions_by_the_compiled_module(module: ModuleType) -> None:
    """Every line is known: definitions are of the outer one, and what is in none, the module's."""
    file = str(module.__file__)
    compiled(file)
    del sys.modules["named_places"]
    names = names_of(file, range(1, 43))
    assert {line: names[line] for line in NAMES} == NAMES
    assert names[18] == "Kind"
    assert names[3] == names[5] == names[17] == names[33] == "<module>"


def test_functions_by_the_loaded_module(module: ModuleType) -> None:
    """Where nothing is compiled, or it is older; what is in none has no name."""
    file = str(module.__file__)
    names = names_of(file, range(1, 43))
    assert {line: names[line] for line in NAMES} == NAMES
    assert names[3] == names[33] == ""
    os.utime(compiled(file), (1, 1))
    assert names_of(file, range(1, 43)) == names


@pytest.mark.parametrize("content", [b"", b"no code at all", b"\xff" * 100])
def test_compiled_modules_that_are_none(module: ModuleType, content: bytes) -> None:
    """Are no error: there is no name then."""
    file = str(module.__file__)
    compiled(file).write_bytes(content)
    assert names_of(file, range(10, 11)) == {10: ""}


def test_modules_that_are_odd(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that raise or lie when they are looked at are not asked."""

    class Raising:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "odd_one", Raising())
    monkeypatch.setitem(sys.modules, "odd_none", None)
    vars(module)["proxy"] = Raising()
    assert names_of(str(module.__file__), range(10, 11)) == {10: "outer.<locals>.inner"}
    assert Packages().of(str(module.__file__)) == "named_places"


def test_what_has_no_file() -> None:
    """Has no function, and is no error."""
    places = [("<string>", 1), ("<frozen importlib._bootstrap>", 3), ("/nowhere.py", 4), ("\0", 5)]
    assert function_names(places) == dict.fromkeys(places, "")


def test_names_that_are_known_are_kept(module: ModuleType) -> None:
    """Only what has none gets one."""
    file = str(module.__file__)
    line = LineGrowth(file, 10, "", 1, 1, 0)
    assert [each.function for each in named_lines([line, line._replace(function="known")])] == [
        "outer.<locals>.inner",
        "known",
    ]
    frames = (Frame(file, "", 10), Frame(file, "known", 14))
    (named,) = named_stacks([StackGrowth(frames, 1, 1)])
    assert [frame.function for frame in named.frames] == ["outer.<locals>.inner", "known"]


@pytest.mark.parametrize(
    ("file", "package"),
    [
        (json.decoder.__file__, "json"),
        (pytest.__file__, "pytest"),
        ("/a/lib/python3.12/site-packages/yarn/weave/loom.py", "yarn"),
        ("/usr/lib/python3/dist-packages/single.py", "single"),
        ("<frozen importlib._bootstrap_external>", "importlib"),
        ("<string>", "<string>"),
        ("/srv/elsewhere/run.py", "run.py"),
        ("relative.py", "relative.py"),
    ],
)
def test_packages(file: str, package: str) -> None:
    """What is imported to have a file; a script is known by its name."""
    packages = Packages()
    assert packages.of(file) == package
    assert packages.of(file) == package


def test_packages_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not loaded is found by `sys.path`, by its longest part that fits."""
    monkeypatch.setattr(sys, "path", ["", "/srv", "/srv/project/src"])
    packages = Packages()
    assert packages.of("/srv/project/src/app/models.py") == "app"
    assert packages.of("/srv/project/setup.py") == "project"
    assert packages.of("/srv/run.py") == "run.py"
