"""Measuring functions that nobody decorated: found by pattern, wrapped as they are imported."""

from __future__ import annotations

import logging
import sys
import types
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from stratatrace.callsites import Options, describe_function
from stratatrace.errors import InvalidValueError
from stratatrace.wrapping import is_measured, measured_member, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType, ModuleType

__all__ = ["PatchTable", "Pattern", "profile_by_pattern"]

_logger = logging.getLogger("stratatrace")
# What measuring a call runs itself: measured, it would have to measure itself.
_OWN_MODULES = frozenset({"opentelemetry", "stratatrace", "wrapt"})
_MEMBERS = (types.FunctionType, classmethod, staticmethod)


class Pattern:
    """Names functions to measure: ``package.module:Class.method``, ``*`` for any text.

    ``module:Class`` means the class's public methods. A name that begins with an underscore is
    matched only by a pattern that spells the underscore. The standard library is meant only where
    its package is spelled: by ``json.*:dumps``, and not by ``*:dumps``.

    Args:
        text: The pattern.

    Raises:
        InvalidValueError: It is no such pattern.
    """

    def __init__(self, text: str) -> None:
        module, colon, name = text.partition(":")
        if not colon or not module or not name or ":" in name:
            msg = f"{text!r} is not a pattern: write package.module:function or module:Class.method"
            raise InvalidValueError(msg)
        self.text = text
        self.module = module
        self.name = name
        self.modules_seen = 0
        self.matches = 0

    @property
    def any_module(self) -> bool:
        """Whether the module is a pattern too."""
        return "*" in self.module

    def wants_module(self, name: str) -> bool:
        """Tell whether functions of that module may match."""
        package = name.partition(".")[0]
        if package in _OWN_MODULES:
            return False
        if "*" in self.module.partition(".")[0] and package in sys.stdlib_module_names:
            return False
        return fnmatchcase(name, self.module)

    def wants(self, qualified_name: str) -> bool:
        """Tell whether the function of that name, within its module, matches."""
        own, _, last = qualified_name.rpartition(".")
        if last.startswith("_") and not self.name.rpartition(".")[2].startswith("_"):
            return False
        return fnmatchcase(qualified_name, self.name) or (bool(own) and own == self.name)

    def complaint(self) -> str | None:
        """Say why nothing was measured by this pattern; None where something was."""
        if self.matches:
            return None
        if not self.modules_seen:
            return f"{self.text!r} matched nothing: no module {self.module!r} was imported"
        return f"{self.text!r} matched nothing: {self.module!r} has no function {self.name!r}"


_NOTHING: Any = object()


class PatchTable:
    """What was replaced, so that it can be put back."""

    def __init__(self) -> None:
        #: Whether more may be replaced: modules that are imported later are looked at until then.
        self.open = True
        self._originals: list[tuple[Any, str, Any, Any]] = []
        self._endings: list[Callable[[], object]] = []
        # What went to every module that had it, and what was there.
        self._everywhere: list[tuple[Any, Any]] = []

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Set an attribute of a module or class, and remember what was there.

        Args:
            owner: The module or class; it may have inherited the attribute, or have none.
            name: The attribute's name.
            replacement: What to put there.
        """
        original = vars(owner).get(name, _NOTHING)
        self._originals.append((owner, name, original, replacement))
        setattr(owner, name, replacement)

    def replace_everywhere(self, original: Any, replacement: Any) -> None:
        """Put *replacement* in the place of a function in every module that imported it by name."""
        _rebind(original, replacement)
        self._everywhere.append((replacement, original))

    def at_undo(self, ending: Callable[[], object]) -> None:
        """Have something done when all is put back."""
        self._endings.append(ending)

    def undo(self) -> None:
        """Put back the very objects that were there, the latest first, and replace no more.

        What somebody else has replaced since stays, as theirs is on top of ours. Modules that have
        imported by name what was put in the place of a function meanwhile have the function
        afterwards.
        """
        self.open = False
        while self._endings:
            self._endings.pop()()
        while self._originals:
            owner, name, original, replacement = self._originals.pop()
            if vars(owner).get(name) is not replacement:
                _logger.info(
                    "stratatrace leaves %s of %r as it is: it was replaced by somebody else since",
                    name,
                    owner,
                )
            elif original is _NOTHING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        while self._everywhere:
            _rebind(*self._everywhere.pop())


def _rebind(old: Any, new: Any) -> None:
    for module in tuple(sys.modules.values()):
        # Not by getattr: a module may import what it is asked for.
        if isinstance(module, types.ModuleType):
            for name, value in tuple(vars(module).items()):
                if value is old:
                    vars(module)[name] = new


def profile_by_pattern(
    patterns: Iterable[Pattern], *, script: str | None = None, table: PatchTable | None = None
) -> PatchTable:
    """Measure whatever matches a pattern, in modules imported before or from now on.

    Args:
        patterns: What to measure. They count what they matched.
        script: The name by which the running script may be meant, besides ``__main__``.
        table: Takes what is patched; a new one by default.

    Returns:
        What was patched, which grows as modules are imported, until it is undone.
    """
    table = table or PatchTable()
    patterns = tuple(patterns)

    def patch(module: ModuleType) -> None:
        try:
            if table.open:  # A hook on an import cannot be taken back.
                _patch_module(module, patterns, table)
        except Exception:
            _logger.warning("stratatrace could not measure %s", module.__name__, exc_info=True)

    if any(pattern.any_module for pattern in patterns):
        # Makes the import hooks' own finder stand in line before ours is put in front of it.
        when_imported(__name__, lambda _module: None)
        finder = _Finder(patterns, patch)
        sys.meta_path.insert(0, finder)
        table.at_undo(partial(_take_out, finder))
    for name in tuple(sys.modules):
        if name != "__main__" and any(p.any_module and p.wants_module(name) for p in patterns):
            when_imported(name, patch)
    for pattern in patterns:
        if not pattern.any_module and pattern.module != "__main__":
            when_imported(pattern.module, patch)
    meant = {"__main__", script or "__main__"}
    of_script = [p for p in patterns if any(p.wants_module(name) for name in meant)]
    if of_script:
        watch = _DefinitionWatch(of_script, table)
        watch.start()
        table.at_undo(watch.stop)
    return table


def _take_out(finder: _Finder) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds no module itself; learns what is about to be imported, where any name may match."""

    def __init__(self, patterns: tuple[Pattern, ...], patch: Callable[[ModuleType], None]) -> None:
        self._patterns = [pattern for pattern in patterns if pattern.any_module]
        self._patch = patch
        self._seen: set[str] = set()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name not in self._seen and any(p.wants_module(name) for p in self._patterns):
            self._seen.add(name)
            when_imported(name, self._patch)


def _patch_module(module: ModuleType, patterns: tuple[Pattern, ...], table: PatchTable) -> None:
    for pattern in patterns:
        if not pattern.wants_module(module.__name__):
            continue
        pattern.modules_seen += 1
        for owner, name, qualified_name in _functions_of(module, pattern):
            if pattern.wants(qualified_name):
                _patch(owner, name, pattern, table)


def _patch(owner: Any, name: str, pattern: Pattern, table: PatchTable) -> None:
    pattern.matches += 1
    member = vars(owner)[name]
    if not is_measured(member):
        describe = partial(describe_function, options=Options())
        table.replace(owner, name, measured_member(member, describe))


def _functions_of(module: ModuleType, pattern: Pattern) -> Iterator[tuple[Any, str, str]]:
    """Yield owner, name and qualified name of every function that a module defines."""
    for name, member in tuple(vars(module).items()):
        if isinstance(member, type) and member.__module__ == module.__name__:
            yield from _methods_of(member, name, module.__name__)
        elif isinstance(member, _MEMBERS) and (
            # What was imported from elsewhere is measured here only when it is called by its name.
            member.__module__ == module.__name__ or name == pattern.name
        ):
            yield module, name, name


def _methods_of(owner: type, path: str, module: str) -> Iterator[tuple[Any, str, str]]:
    for name, member in tuple(vars(owner).items()):
        if isinstance(member, type):
            if (
                member.__module__ == module
                and member.__qualname__ == f"{owner.__qualname__}.{name}"
            ):
                yield from _methods_of(member, f"{path}.{name}", module)
        elif isinstance(member, _MEMBERS):
            yield owner, name, f"{path}.{name}"


class _DefinitionWatch:
    """Patches the functions of the running script, which nobody imports, as they are defined.

    The script's own code is traced line by line, and only until all functions that can match are
    there: their names are known beforehand from its code object. No other code is slowed down
    for longer than that.
    """

    def __init__(self, patterns: list[Pattern], table: PatchTable) -> None:
        self._patterns = patterns
        self._table = table
        self._awaited: set[str] = set()
        self._seen = False

    def start(self) -> None:
        """Wait for the script to begin; of one that has begun, take it from where it is."""
        frame = _running_script()
        if frame is None:
            sys.settrace(self._on_call)
            return
        self._begin(frame)
        self._look(frame.f_globals)
        if self._awaited and sys.gettrace() is None and frame in _own_frames():
            frame.f_trace = self._on_line
            sys.settrace(self._on_call)

    def stop(self) -> None:
        """Wait no more; in another thread than that of the script it takes effect in a moment."""
        if sys.gettrace() == self._on_call:
            sys.settrace(None)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        if not self._table.open:
            sys.settrace(None)
        elif not self._seen and _is_script(frame):
            # Once: code run by exec() in the script's namespace, as dataclasses do, looks alike.
            self._begin(frame)
            return self._on_line
        return None

    def _begin(self, frame: FrameType) -> None:
        self._seen = True
        for pattern in self._patterns:
            pattern.modules_seen += 1
        self._awaited = set(_defined_names(frame.f_code))

    def _on_line(self, frame: FrameType, event: str, _argument: object) -> Any:
        self._look(frame.f_globals)
        if not self._awaited or event == "return":
            sys.settrace(None)
            return None
        return self._on_line

    def _look(self, namespace: dict[str, Any]) -> None:
        if not self._table.open:
            self._awaited.clear()
        for name in [name for name in self._awaited if name in namespace]:
            self._awaited.discard(name)
            try:
                self._patch(name)
            except Exception:
                _logger.warning("stratatrace could not measure %s", name, exc_info=True)

    def _patch(self, name: str) -> None:
        main = sys.modules["__main__"]
        for pattern in self._patterns:
            for owner, last, qualified_name in _functions_of(main, pattern):
                if qualified_name.split(".")[0] == name and pattern.wants(qualified_name):
                    _patch(owner, last, pattern, self._table)


def _defined_names(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and constant.co_name.isidentifier():
            yield constant.co_name


def _running_script() -> FrameType | None:
    """Return the frame of the running script's own lines; None before it begins."""
    others = sys._current_frames().values()  # noqa: SLF001 -- the one way to another thread's
    frames = (*_own_frames(), *(frame for top in others for frame in _outwards(top)))
    return next(filter(_is_script, frames), None)


def _own_frames() -> tuple[FrameType, ...]:
    return tuple(_outwards(sys._getframe(1)))  # noqa: SLF001 -- what inspect does too


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_script(frame: FrameType) -> bool:
    namespace = getattr(sys.modules.get("__main__"), "__dict__", None)
    return frame.f_globals is namespace and frame.f_code.co_name == "<module>"
