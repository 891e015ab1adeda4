"""Looks at objects without running any of their code, which may raise, lie, or change them.

No ``repr``, no ``len``, no ``==``, no attribute of an instance: only what the interpreter itself
has of every type, called on the object. What the class of an object says of itself is not asked.
"""

from __future__ import annotations

import gc
import sys
import types
from typing import Any, Final

__all__ = [
    "flags_of",
    "hides_trace",
    "is_one_of",
    "isinstance_of",
    "leads_on",
    "members",
    "module_of",
    "mro_of",
    "namespace",
    "namespace_of",
    "own_size",
    "qualname_of",
    "referents",
    "type_name",
]

_TYPE: Any = type.__dict__
#: The interpreter's own ways into a class, which no metaclass can stand before.
mro_of = _TYPE["__mro__"].__get__
namespace_of = _TYPE["__dict__"].__get__
flags_of = _TYPE["__flags__"].__get__
qualname_of = _TYPE["__qualname__"].__get__
module_of = _TYPE["__module__"].__get__
_ATTRIBUTES_BEFORE = 1 << 4  # Py_TPFLAGS_MANAGED_DICT
_HIDDEN = sys.version_info < (3, 12)
_HEAD_BYTES: Final = 16  # Before what the collector tracks.
#: Kinds of objects that C code puts into a class.
_SLOT, _GETSET, _METHOD = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.MethodDescriptorType,
)


def type_name(kind: type) -> str:
    """Return a type's name, with its module but for builtins."""
    name = qualname_of(kind)
    module = namespace_of(kind).get("__module__")
    if type(module) is not str:  # Of a type of C code it is in the name of that.
        spelled: Any = module_of(kind)
        module = spelled if type(spelled) is str else "builtins"
    return name if module == "builtins" else f"{module}.{name}"


def hides_trace(kind: type) -> bool:
    """Return whether tracemalloc does not tell where an object of this type was allocated.

    Before Python 3.12, it looks at the wrong address where attributes are kept before the object.
    """
    return _HIDDEN and bool(flags_of(kind) & _ATTRIBUTES_BEFORE)


def own_size(item: object) -> int:
    """Return what an object takes without what it refers to, in bytes; 0 where nobody knows."""
    for base in mro_of(type(item)):
        method = namespace_of(base).get("__sizeof__")
        if type(method) is _METHOD:
            try:
                size = method(item)
            except Exception:
                return 0
            return size + _HEAD_BYTES * gc.is_tracked(item) if type(size) is int else 0
    return 0


def namespace(item: object) -> dict[Any, Any] | None:
    """Return the dictionary of an object's attributes, of a class's, or of a module's."""
    if isinstance_of(item, type):
        return dict(namespace_of(item))
    found = _from_class(item, "__dict__", _GETSET, _SLOT)
    return found if type(found) is dict else None


def members(item: object) -> list[tuple[str, object]]:
    """Return the names and values of an object's slots."""
    found: list[tuple[str, object]] = []
    for base in mro_of(type(item)):
        for name, slot in namespace_of(base).items():
            if type(slot) is _SLOT and type(name) is str:
                try:
                    found.append((name, slot.__get__(item)))
                except Exception:  # noqa: S112 -- it is not set
                    continue
    return found


def referents(items: list[object]) -> list[object]:
    """Return what objects refer to, but for modules.

    The state of `_asyncio` tells of objects that are not alive, and to ask for these ends the
    process (Python 3.12). The namespace of a module is an object of its own.
    """
    return gc.get_referents(*[item for item in items if type(item) is not types.ModuleType])


def leads_on(item: object) -> bool:
    """Return whether an object may refer to others.

    The collector does not track dictionaries and tuples of numbers and texts.
    """
    return gc.is_tracked(item) or type(item) is dict or type(item) is tuple


def is_one_of(kind: type, kinds: tuple[type, ...]) -> bool:
    """Return whether a type is among others, without the `==` and the hash of its metaclass."""
    return any(kind is one for one in kinds)


def isinstance_of(item: object, kind: type) -> bool:
    """Return whether an object is of a type or of one derived from it, whatever it says."""
    return any(base is kind for base in mro_of(type(item)))


def _from_class(item: object, name: str, *kinds: type) -> Any:
    """Return what the first descriptor of C code of that name gives; None without."""
    for base in mro_of(type(item)):
        descriptor = namespace_of(base).get(name)
        if is_one_of(type(descriptor), kinds):
            try:
                return descriptor.__get__(item)
            except Exception:
                return None
    return None
