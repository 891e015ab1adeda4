"""Which function a line of a file is in, for stacks that know only files and lines.

It is told by the compiled module that Python has left beside the source, which is read in a
millisecond and names all that ran; without one, or where that is older, by the functions of the
module that is loaded. No source is compiled for it: that takes long, and prints the warnings of
other people's code.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.machinery import SourcelessFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.growth_packages import loaded_modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stratatrace.stacks import LineGrowth, StackGrowth

__all__ = ["MODULE", "function_names", "named_lines", "named_stacks"]

#: The name of what is in no function.
MODULE = "<module>"


def named_lines(lines: list[LineGrowth]) -> list[LineGrowth]:
    """Return them with the names of their functions, where they have none and it is known."""
    names = function_names((line.file, line.line) for line in lines if not line.function)
    return [
        line if line.function else line._replace(function=names[line.file, line.line])
        for line in lines
    ]


def named_stacks(stacks: list[StackGrowth]) -> list[StackGrowth]:
    """Return them with the names of the functions of their frames, as `named_lines` does."""
    frames = {frame for stack in stacks for frame in stack.frames if not frame.function}
    names = function_names((frame.file, frame.line) for frame in frames)
    named = {frame: frame._replace(function=names[frame.file, frame.line]) for frame in frames}
    return [
        stack._replace(frames=tuple(named.get(frame, frame) for frame in stack.frames))
        for stack in stacks
    ]


def function_names(places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return the qualified name of the function of each place; empty where nothing tells it.

    Args:
        places: Files and lines, from 1.
    """
    lines_by_file: dict[str, set[int]] = defaultdict(set)
    for file, line in places:
        lines_by_file[file].add(line)
    found: dict[tuple[str, int], str] = {}
    for file, lines in lines_by_file.items():
        names, of_others = _functions(file)
        found.update({(file, line): names.get(line, of_others) for line in lines})
    return found


def _functions(file: str) -> tuple[dict[int, str], str]:
    """Return the names of functions by each of their lines, and what the other lines are in."""
    try:
        code = None if file.startswith("<") else _compiled(file)
        if code is not None:
            return dict(_lines(code)), MODULE
        return dict(_loaded_lines(file)), ""
    # What lies there may be anything, and a name is not worth an error.
    except Exception:
        return {}, ""


def _compiled(file: str) -> CodeType | None:
    """Return the code of the module; None where there is none that is as new as the source."""
    compiled = Path(cache_from_source(file))
    try:
        if compiled.stat().st_mtime < Path(file).stat().st_mtime:
            return None
    except OSError:
        return None
    return SourcelessFileLoader("", str(compiled)).get_code("")


def _lines(code: CodeType, outer: str = MODULE) -> Iterator[tuple[int, str]]:
    """Yield each line of a function and its name; then those of the functions in it."""
    # Comprehensions and lambdas count as the function that they are in.
    name = outer if code.co_name.startswith("<") else code.co_qualname
    lines = {line for *_, line in code.co_lines() if line}
    # The line of a definition runs in the outer one, which makes the function.
    for line in lines - {code.co_firstlineno} or lines:
        yield line, name
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _lines(inner, name)


def _loaded_lines(file: str) -> Iterator[tuple[int, str]]:
    """Yield each line of the functions that the modules of this file have."""
    for _, loaded_from, module in loaded_modules():
        if loaded_from == file:
            for function in _functions_in(vars(module), {}):
                if function.__code__.co_filename == file:
                    yield from _lines(function.__code__)


def _functions_in(members: Any, seen: dict[int, object]) -> Iterator[FunctionType]:
    """Yield the functions among these, and those of classes among them.

    Types are asked and not the objects, which may be proxies of anything.
    """
    for member in list(members.values()):
        if type(member) is property:
            yield from _functions_in({0: member.fget, 1: member.fset, 2: member.fdel}, seen)
        elif type(member) in {staticmethod, classmethod}:
            yield from _functions_in({0: member.__func__}, seen)
        elif type(member) is FunctionType and id(member) not in seen:
            seen[id(member)] = member
            yield member
            yield from _functions_in({0: vars(member).get("__wrapped__")}, seen)
        elif issubclass(type(member), type) and id(member) not in seen:
            seen[id(member)] = member
            yield from _functions_in(vars(member), seen)
