"""Which function a line of a file is in, for stacks that know only files and lines.

It is told by the compiled module that Python has left beside the source, which is read in a
millisecond and names all that ran; without one, or where that is older, by the functions of the
module that is loaded. No source is compiled for it: that takes long, and prints the warnings of
other people's code.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from importlib.machinery import SourcelessFileLoader
from importlib.util import cache_from_source
from operator import attrgetter
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

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
        scopes = _scopes_of(file)
        for line in lines:
            found[file, line] = _name_at(line, scopes)
    return found


class _Scope(NamedTuple):
    """A function, class or module, and what it is defined in."""

    first_line: int
    name: str
    code: CodeType
    outer: _Scope | None


def _scopes_of(file: str) -> list[_Scope]:
    """Return the scopes of a file that are known, by their first lines."""
    scopes: list[_Scope] = []
    try:
        code = None if file.startswith("<") else _compiled(file)
        if code is not None:
            _collect(code, None, scopes)
        else:
            for function in _loaded_functions(file):
                _collect(function.__code__, None, scopes)
    # What lies there may be anything, and a name is not worth an error.
    except Exception:
        return []
    return sorted(scopes, key=_FIRST_LINE)


def _collect(code: CodeType, outer: _Scope | None, scopes: list[_Scope]) -> None:
    """Put a scope, and those in it, into a list."""
    name = code.co_qualname
    if outer is not None and code.co_name.startswith("<"):
        name = outer.name  # Comprehensions and lambdas count as the function that they are in.
    scope = _Scope(code.co_firstlineno, name, code, outer)
    scopes.append(scope)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            _collect(inner, scope, scopes)


def _name_at(line: int, scopes: list[_Scope]) -> str:
    """Return the name of the scope that a line is in; empty for none of them.

    That is the one which begins last before it, or one around that: few are to be looked into, as
    that takes long where it is traced.
    """
    at = bisect_right(scopes, line, key=_FIRST_LINE) - 1
    scope = scopes[at] if at >= 0 else None
    while scope is not None and not _has_line(scope, line):
        scope = scope.outer
    return "" if scope is None else scope.name


def _has_line(scope: _Scope, line: int) -> bool:
    """Tell whether a line runs in a scope, and not only around it."""
    if scope.outer is None and scope.name == MODULE:
        return True
    lines = {each for *_, each in scope.code.co_lines() if each}
    # The line of a definition runs in the outer one, which makes the function.
    return line in (lines - {scope.first_line} or lines)


_FIRST_LINE = attrgetter("first_line")


def _compiled(file: str) -> CodeType | None:
    """Return the code of the module; None where there is none that is as new as the source."""
    compiled = Path(cache_from_source(file))
    try:
        if compiled.stat().st_mtime < Path(file).stat().st_mtime:
            return None
    except OSError:
        return None
    return SourcelessFileLoader("", str(compiled)).get_code("")


def _loaded_functions(file: str) -> Iterator[FunctionType]:
    """Yield the functions of a file that the modules which are loaded from it have."""
    for _, loaded_from, module in loaded_modules():
        if loaded_from == file:
            for function in _functions_in(vars(module), {}):
                if function.__code__.co_filename == file:
                    yield function


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
