"""What objects refer to, and what they are called: found out without running any code of theirs.

An object may have a ``__repr__`` that raises, a ``__class__`` that lies, and a metaclass that does
both. So types are real types, which are known by their ids, since a metaclass may have a hash of
its own; and attributes are read through the interpreter's own descriptors.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stratatrace.diagnose.inert import module_of, mro_of, namespace_of, qualname_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CODE",
    "CONTAINERS",
    "GENERATORS",
    "LRU_CACHE",
    "Reference",
    "attributes_of",
    "clear_slot",
    "code_of",
    "defines",
    "full_name",
    "instance_dict",
    "is_kind",
    "reference",
    "shown_name",
    "type_name",
]


def _ids(*kinds: type) -> frozenset[int]:
    return frozenset(map(id, kinds))


ReferenceKind = Literal["attribute", "item", "value", "key", "local", "dict", "unknown"]

#: What only holds others together: in a path it is not told of.
CONTAINERS = _ids(list, tuple, dict, set, frozenset, deque, types.CellType, types.TracebackType)

#: What `functools.lru_cache` makes of a function.
LRU_CACHE = type(functools.lru_cache(lambda: None))
#: What is no object of data: a path does not begin with it where there is other.
CODE = _ids(
    types.FunctionType,
    types.MethodType,
    types.BuiltinMethodType,
    types.FrameType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    LRU_CACHE,
)

# How the attributes of generators and the like begin.
_GENERATORS: dict[type, str] = {
    types.GeneratorType: "gi",
    types.CoroutineType: "cr",
    types.AsyncGeneratorType: "ag",
}
#: Generators, coroutines and asynchronous generators.
GENERATORS = _ids(*_GENERATORS)
_RUNNING: dict[type, str] = {
    types.FrameType: "frame",
    types.GeneratorType: "generator",
    types.CoroutineType: "coroutine",
    types.AsyncGeneratorType: "async generator",
}
# Beside members of C structures, which slots are as well, what the interpreter's own types tell.
_TOLD: tuple[tuple[type, tuple[str, ...]], ...] = (
    (BaseException, ("__traceback__", "__cause__", "__context__", "args")),
    (types.TracebackType, ("tb_frame", "tb_next")),
    (types.FrameType, ("f_back",)),
    (types.FunctionType, ("__closure__", "__defaults__", "__kwdefaults__")),
    (types.BuiltinMethodType, ("__self__",)),
    (types.CellType, ("cell_contents",)),
    (type, ("__mro__", "__bases__")),
)
_ORDERED: tuple[Any, ...] = (list, tuple, deque)
_UNORDERED: tuple[Any, ...] = (set, frozenset)
_MOST_CHARACTERS = 100
_NO_NAME = "?"


def _locals_type() -> type:
    """Return what the local variables of a frame are: a dictionary, or from 3.13 on a view."""
    return type(sys._getframe().f_locals)  # noqa: SLF001 -- the one way to it


_LOCALS = _locals_type()


class Reference(NamedTuple):
    """How one object refers to another."""

    kind: ReferenceKind
    #: The attribute or local variable; the key, where that is text.
    name: str = ""
    #: The place in a list or tuple.
    place: int = -1


def is_kind(item: object, kind: type) -> bool:
    """Tell whether its real type is that one, or derived from it; ``__class__`` may lie."""
    return issubclass(type(item), kind)


def type_name(kind: type) -> str:
    """Return the name of a class for people: no module, and no function that it was made in."""
    return _text(qualname_of(kind)).rpartition("<locals>.")[2]


def full_name(kind: type) -> str:
    """Return the name of a class with its module, as bounded text."""
    try:
        module = _text(module_of(kind))
    except Exception:
        module = _NO_NAME  # It was deleted from the class.
    name = _text(qualname_of(kind))
    return name if module == "builtins" else f"{module}.{name}"


def shown_name(item: object) -> str:
    """Return what an object is, for people: ``Node``, ``load()``, ``load() frame``."""
    kind = type(item)
    some: Any = item
    code = code_of(item)
    if code is not None:
        name = f"{_text(code.co_qualname).rpartition('<locals>.')[2]}()"
        return name if kind is types.FunctionType else f"{name} {_RUNNING[kind]}"
    if kind is types.MethodType:
        shown = f"{_owner(some.__self__)}.{_called(some.__func__)}()"
    elif kind is types.BuiltinMethodType:
        shown = f"{_owner(some.__self__)}.{_text(some.__name__)}()"
    elif issubclass(kind, type):
        shown = f"class {type_name(some)}"
    else:
        shown = "lru_cache" if kind is LRU_CACHE else type_name(kind)
    return shown


def code_of(item: object) -> types.CodeType | None:
    """Return the code of a function, a frame, a generator or a coroutine; None of all else."""
    kind = type(item)
    found: Any = item
    if kind is types.FunctionType:
        code = found.__code__
    elif kind is types.FrameType:
        code = found.f_code
    elif id(kind) in GENERATORS:
        code = getattr(found, f"{_GENERATORS[kind]}_code")
    else:
        return None
    return code if type(code) is types.CodeType else None


def defines(item: object, name: str) -> bool:
    """Tell whether the class of an object, or one above it, defines something in Python."""
    return any(
        type(namespace_of(base).get(name)) is types.FunctionType for base in mro_of(type(item))
    )


def instance_dict(item: object) -> dict[Any, Any] | None:
    """Return the dictionary of an object's attributes; None where it has none."""
    for base in mro_of(type(item)):
        found = namespace_of(base).get("__dict__")
        if type(found) is types.GetSetDescriptorType:
            try:
                attributes = found.__get__(item)
            except Exception:
                return None  # It was taken from another class.
            return attributes if is_kind(attributes, dict) else None
    return None


def attributes_of(item: object) -> Iterator[tuple[str, object]]:
    """Go through what an object has in slots and in members of its C structure, by name."""
    kind = type(item)
    for base, names in _TOLD:
        if issubclass(kind, base):
            for name in names:
                yield from _read(namespace_of(base)[name], name, item)
    for base in mro_of(kind):
        for name, described in namespace_of(base).items():
            if type(described) is types.MemberDescriptorType and type(name) is str:
                yield from _read(described, name, item)


def clear_slot(item: object, name: str) -> bool:
    """Have a slot of an object, or the traceback of an exception, refer to nothing.

    Returns:
        Whether that could be done.
    """
    for base in mro_of(type(item)):
        described: Any = namespace_of(base).get(name)
        if type(described) is types.MemberDescriptorType:
            try:
                described.__delete__(item)
            except Exception:
                return False  # It is one of a C structure, which can only be read.
            return True
    if name == "__traceback__" and is_kind(item, BaseException):
        namespace_of(BaseException)[name].__set__(item, None)
        return True
    return False


def reference(holder: object, target: object) -> Reference:
    """Return how *holder* refers to *target*."""
    for value, found in _references_of(holder):
        if value is target:
            return found
    return Reference("unknown")


def _references_of(holder: object) -> Iterator[tuple[object, Reference]]:
    """Go through what an object refers to, as far as that has a name or a place."""
    yield from _placed_in(holder)
    if id(type(holder)) in GENERATORS or type(holder) is types.FrameType:
        for name, value in _locals_of(holder):
            yield value, Reference("local", name)
    some: Any = holder
    attributes: Any = namespace_of(some) if is_kind(holder, type) else instance_dict(holder)
    if attributes is not None:
        yield attributes, Reference("dict")
        items = dict.items(attributes) if is_kind(attributes, dict) else attributes.items()
        for name, value in items:
            if type(name) is str:
                yield value, Reference("attribute", _text(name))
    for name, value in attributes_of(holder):
        yield value, Reference("attribute", _text(name))
    yield type(holder), Reference("attribute", "__class__")


def _placed_in(holder: object) -> Iterator[tuple[object, Reference]]:
    """Go through what is in a list, a dictionary or the like."""
    some: Any = holder
    if is_kind(holder, dict):
        for key, value in dict.items(some):
            yield value, Reference("value", _text(key) if type(key) is str else "")
            yield key, Reference("key")
    for kind in _ORDERED:
        if is_kind(holder, kind):
            for place, value in enumerate(kind.__iter__(some)):
                yield value, Reference("item", place=place)
    for kind in _UNORDERED:
        if is_kind(holder, kind):
            for value in kind.__iter__(some):
                yield value, Reference("item")


def _locals_of(item: object) -> list[tuple[str, object]]:
    try:
        some: Any = item
        is_frame = type(item) is types.FrameType
        frame = some if is_frame else getattr(some, f"{_GENERATORS[type(item)]}_frame")
        found = frame.f_locals if frame is not None else {}
    except Exception:
        return []  # It runs just now, or has ended.
    # Of a class's body it can be whatever the metaclass has prepared.
    known = type(found) is dict or type(found) is _LOCALS
    return list(found.items()) if known else []


def _read(described: Any, name: str, item: object) -> Iterator[tuple[str, object]]:
    try:
        value = described.__get__(item)
    except Exception:
        return  # It is not set.
    yield name, value


def _owner(item: object) -> str:
    if is_kind(item, type):
        described: Any = item
        return type_name(described)
    return type_name(type(item))


def _called(function: object) -> str:
    code = code_of(function)
    return _text(code.co_name) if code is not None else type_name(type(function))


def _text(name: object) -> str:
    """Return a name as text that is just that, and not too long."""
    if not is_kind(name, str):
        return _NO_NAME
    text = str.__str__(name)  # It may be of a class of the user's.
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
