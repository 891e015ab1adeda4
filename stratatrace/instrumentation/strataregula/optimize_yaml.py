"""The switch ``yaml``: documents are read by the parser in C, and objects are made as it goes.

PyYAML's own C loader composes a tree of the whole document before it makes anything of it; here
objects are made of the parser's events. Only what both of PyYAML's parsers take alike is read so.
All else, errors before all, is left to the function that was there before, from the beginning.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.optimize_modules import SeenModule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["fast_yaml"]

# What one of the two parsers refuses, or takes otherwise: tabs, breaks other than that of a line,
# marks of the byte order, what cannot be printed, and directives.
_DOUBTFUL = re.compile(
    "[^\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|^%",
    re.MULTILINE,
)
_BLOCK_STYLES = frozenset("|>")
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = frozenset(_PREFIX + name for name in ("str", "int", "float", "bool", "null"))
# The parser in Python recurses, and where it gives up is part of what it does.
_MOST_NESTED = 20
_MOST_REMEMBERED = 10_000
_NO_KEY: Any = object()


class _DoubtfulError(Exception):
    """The document is not for the parser in C."""


def fast_yaml(_module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return ``yaml`` with another `safe_load` for a module; None where there is no C parser."""
    yaml = originals["yaml"]
    if not isinstance(getattr(yaml, "CSafeLoader", None), type):
        return None
    return {"yaml": SeenModule(yaml, safe_load=_fast_safe_load(yaml))}


def _fast_safe_load(yaml: ModuleType) -> Callable[[Any], Any]:
    bare = yaml.safe_load

    def safe_load(stream: Any) -> Any:
        if yaml.safe_load is bare and _is_plain(yaml):
            if type(stream) is str:
                try:
                    return _load(yaml, _Checked(io.StringIO(stream)))
                except Exception:  # noqa: S110 -- what it was is told by the one that was there
                    pass
            elif isinstance(stream, io.TextIOBase) and stream.seekable():
                try:
                    began = stream.tell()
                except OSError:  # Somebody reads it line by line.
                    return bare(stream)
                try:
                    return _load(yaml, _Checked(stream))
                except Exception:  # Likewise.
                    stream.seek(began)
        return yaml.safe_load(stream)

    return safe_load


def _is_plain(yaml: ModuleType) -> bool:
    """Tell whether nobody has taught the loader other things, such as tags of their own."""
    loader, constructor = yaml.SafeLoader, yaml.constructor.SafeConstructor
    made = constructor.yaml_constructors
    return (
        loader.yaml_constructors is made
        and loader.yaml_implicit_resolvers is yaml.CSafeLoader.yaml_implicit_resolvers
        and not loader.yaml_path_resolvers
        and made[f"{_PREFIX}map"] is constructor.construct_yaml_map
        and made[f"{_PREFIX}seq"] is constructor.construct_yaml_seq
        and made[f"{_PREFIX}str"] is constructor.construct_yaml_str
    )


class _Checked:
    """The text as the parser reads it, looked through for what is doubtful."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream

    def read(self, size: int) -> str:
        text = self._stream.read(size)
        if _DOUBTFUL.search(text):
            raise _DoubtfulError
        return text


def _load(yaml: ModuleType, text: _Checked) -> Any:
    loader = yaml.CSafeLoader(text)
    try:
        return _Builder(yaml, loader).build()
    finally:
        loader.dispose()


class _Builder:
    """Makes the object of a document with one root, and nothing in it that refers to another."""

    def __init__(self, yaml: ModuleType, loader: Any) -> None:
        self._events = yaml.events
        self._node = yaml.nodes.ScalarNode
        self._constructors = yaml.constructor.SafeConstructor.yaml_constructors
        self._loader = loader
        self._remembered: dict[str, Any] = {}

    def build(self) -> Any:
        """Return the object; raise for what is doubtful, or wrong."""
        events, next_event = self._events, self._loader.get_event
        next_event()  # The stream begins.
        if isinstance(next_event(), events.StreamEndEvent):
            return None
        root = self._build_root()
        next_event()  # The document ends.
        if not isinstance(next_event(), events.StreamEndEvent):
            raise _DoubtfulError
        return root

    def _build_root(self) -> Any:
        events, next_event, scalar = self._events, self._loader.get_event, self._scalar
        scalar_event, mapping_start = events.ScalarEvent, events.MappingStartEvent
        sequence_start = events.SequenceStartEvent
        ends = (events.MappingEndEvent, events.SequenceEndEvent)
        outer: list[tuple[Any, Any]] = []
        root: list[Any] = []
        into: Any = root
        key = _NO_KEY
        while True:
            event = next_event()
            kind = type(event)
            if kind is scalar_event:
                made = scalar(event)
            elif kind is mapping_start or kind is sequence_start:
                if len(outer) >= _MOST_NESTED or event.anchor is not None or event.tag is not None:
                    raise _DoubtfulError
                if type(into) is dict and key is _NO_KEY:
                    raise _DoubtfulError  # As a key it cannot be hashed.
                outer.append((into, key))
                into, key = {} if kind is mapping_start else [], _NO_KEY
                continue
            elif kind in ends:
                made = into
                into, key = outer.pop()
            else:
                raise _DoubtfulError  # An alias.
            if type(into) is list:
                into.append(made)
            elif key is _NO_KEY:
                key = made
                continue
            else:
                into[key] = made
                key = _NO_KEY
            if into is root:
                return root[0]

    def _scalar(self, event: Any) -> Any:
        if event.anchor is not None or event.tag is not None or event.style in _BLOCK_STYLES:
            raise _DoubtfulError
        value = event.value
        if not event.implicit[0]:
            return value  # It is in quotes.
        remembered = self._remembered
        if value not in remembered:
            tag = self._loader.resolve(self._node, value, event.implicit)
            if tag not in _SCALARS:
                raise _DoubtfulError
            if len(remembered) >= _MOST_REMEMBERED:
                remembered.clear()
            node = self._node(tag, value)
            remembered[value] = self._constructors[tag](self._loader, node)
        return remembered[value]
