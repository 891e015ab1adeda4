"""Which function a line of a file is in, for stacks that know only files and lines.

It is told by the compiled module that Python has left beside the source, which is read in a
millisecond and names what ran; without one, or where that is older, by the source's own words.
Neither is compiled here: that would print the warnings of other people's code.
"""

from __future__ import annotations

import tokenize
from collections import defaultdict
from importlib.machinery import SourcelessFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MODULE", "function_names"]

#: The name of what is in no function.
MODULE = "<module>"


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
        names = _functions(file)
        for line in lines:
            found[file, line] = "" if names is None else names.get(line, MODULE)
    return found


def _functions(file: str) -> dict[int, str] | None:
    """Return the names of functions by each of their lines; None where nothing can be read."""
    if file.startswith("<"):
        return None
    try:
        code = _compiled(file)
        if code is not None:
            return dict(_named_lines(code))
        return _read(file)
    # What lies there may be anything, and a name is not worth an error.
    except Exception:
        return None


def _compiled(file: str) -> CodeType | None:
    compiled = Path(cache_from_source(file))
    try:
        if compiled.stat().st_mtime < Path(file).stat().st_mtime:
            return None
    except OSError:
        return None
    return SourcelessFileLoader("", str(compiled)).get_code("")


def _named_lines(code: CodeType) -> Iterator[tuple[int, str]]:
    """Yield each line of the functions within, those of inner functions after those of outer."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            # Comprehensions and lambdas count as the function that they are in.
            if not inner.co_name.startswith("<"):
                lines = {line for *_, line in inner.co_lines() if line is not None}
                # The line of the definition runs in the outer one, which makes the function.
                for line in lines - {inner.co_firstlineno} or lines:
                    yield line, inner.co_qualname
            yield from _named_lines(inner)


class _Statement(NamedTuple):
    """A statement of a source, or the head of a compound one."""

    words: list[str]
    #: How many blocks it is in.
    depth: int
    first_line: int
    last_line: int


class _Scope(NamedTuple):
    """A function or class whose block is being read."""

    name: str
    is_function: bool
    #: Of its head.
    depth: int


def _read(file: str) -> dict[int, str]:
    """Return the names by line as the words of the source tell them."""
    with tokenize.open(file) as source:
        lines = source.readlines()
    return dict(_spoken_lines(_statements(tokenize.generate_tokens(iter(lines).__next__))))


def _spoken_lines(statements: Iterable[_Statement]) -> Iterator[tuple[int, str]]:
    """Yield each line within a function or class, and its name."""
    scopes: list[_Scope] = []
    for words, depth, first_line, last_line in statements:
        while scopes and scopes[-1].depth >= depth:
            scopes.pop()
        if scopes:
            for line in range(first_line, last_line + 1):
                yield line, scopes[-1].name
        keyword, *named = words[1:] if words[0] == "async" else words
        if keyword in {"def", "class"} and named:
            scopes.append(_inner(scopes, keyword, named[0], depth))


def _inner(scopes: list[_Scope], keyword: str, name: str, depth: int) -> _Scope:
    if scopes:
        between = ".<locals>." if scopes[-1].is_function else "."
        name = scopes[-1].name + between + name
    return _Scope(name, keyword == "def", depth)


def _statements(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[_Statement]:
    depth, first_line = 0, 0
    words: list[str] = []
    for token in tokens:
        depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
        if token.type == tokenize.NEWLINE:
            yield _Statement(words, depth, first_line, token.start[0])
            words = []
        elif token.type not in _NO_WORDS:
            first_line = first_line if words else token.start[0]
            words.append(token.string)


_NO_WORDS = {tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
