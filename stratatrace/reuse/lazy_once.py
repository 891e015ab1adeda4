"""Computed once among threads: who computes which value, and who waits for it.

Nothing here is on the path of a value that is there already. A computation is known by the lazy
value and the instance that it is for, so that two instances are computed at the same time, and no
lock is held while the user's function runs. A computation that an exception has ended between two
lines, as a signal's handler raises it anywhere, is seen to be abandoned, and is not waited for.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import ref

from stratatrace.errors import CircularValueError
from stratatrace.reuse.lazy_recipe import MISSING, own_work

if TYPE_CHECKING:
    from stratatrace.reuse.lazy_recipe import Key, Recipe, Sought

__all__ = ["circular", "disown", "disown_computation", "once", "publish"]


class Computation:
    """A value that a thread is computing."""

    __slots__ = ("_turn", "computing", "owner", "unwanted", "value")

    def __init__(self, turn: _Turn) -> None:
        self.owner = threading.get_ident()
        self._turn = ref(turn)
        #: Locked until it has ended. An Event would take longer to make than all the rest.
        self.computing = threading.Lock()
        self.computing.acquire()
        #: For those who wait, who must have it though it may be dropped at once.
        self.value: Any = MISSING
        #: Whether the value was reset meanwhile, so that this one must not be kept.
        self.unwanted = False

    @property
    def abandoned(self) -> bool:
        """Whether an exception from elsewhere, as of a signal, has ended it between two lines."""
        return self._turn() is None


class _Turn:
    """The right to compute. Its thread's frames have it, and nobody else: it goes with them."""

    __slots__ = ("__weakref__", "_key", "computation")

    def __init__(self, key: Key) -> None:
        self._key = key
        self.computation = Computation(self)

    def take(self) -> Computation:
        """Return the computation that is under way, which is this one where there was none."""
        return _under_way.setdefault(self._key, self.computation)

    def end(self) -> None:
        """Have those who wait go on."""
        _remove(self._key, self.computation)
        self.computation.computing.release()


_under_way: dict[Key, Computation] = {}
# How often those who wait look whether it makes sense.
_LOOK_SECONDS = 1.0
#: What each thread waits for, by its id.
_waiting: dict[int, Computation] = {}
# For the moment in which a value is kept or dropped; no code of the user's runs under it.
_publishing = threading.RLock()


def once(sought: Sought) -> Any:
    """Return the value, computed by this thread or by another one.

    Where another thread's computation fails, its error is its own: this one tries again.

    Args:
        sought: Which value.

    Raises:
        CircularValueError: It needs itself.
        Exception: Whatever computing it raises.
    """
    while True:
        current = _under_way.get(sought.key)
        if current is not None and current.abandoned:
            _remove(sought.key, current)
            current = None
        if current is None:
            # In a list, and in no variable: it is to be dropped while our own work is held.
            turns: list[_Turn] = []
            _begin_turn(turns, sought.key)
            try:
                current = turns[0].take()
                if current is turns[0].computation:
                    return _compute(sought, current)
            finally:
                if current is turns[0].computation:
                    current = None
                _end_turn(turns)
        value = MISSING if current is None else _wait(sought.recipe, current)
        if value is not MISSING:
            return value


def publish(sought: Sought, value: Any, computation: Any) -> None:
    """Keep *value*, unless it was reset while it was computed.

    Raises:
        InvalidTypeError: It is to be kept weakly, and cannot be.
    """
    sought.recipe.check(value)
    with _publishing:
        if not computation.unwanted:
            sought.home.keep(sought.instance, value)
    sought.recipe.count_computation()


def disown(under_way: dict[Key, Any], key: Key) -> None:
    """Have what is being computed kept nowhere: who waits has it, the next one computes anew."""
    with _publishing:
        computation = under_way.pop(key, None)
        if computation is not None:
            computation.unwanted = True


def disown_computation(key: Key) -> None:
    """Disown what a thread is computing; see `disown`."""
    disown(_under_way, key)


def circular(recipe: Recipe) -> CircularValueError:
    """Return the error for a value that needs itself."""
    return CircularValueError(
        f"{recipe.title} needs its own value to be computed: it was read by what computes it"
    )


def _remove(key: Key, computation: Computation) -> None:
    with _publishing:
        if _under_way.get(key) is computation:
            _under_way.pop(key, None)


def _begin_turn(turns: list[_Turn], key: Key) -> None:
    with own_work():
        turns.append(_Turn(key))


def _end_turn(turns: list[_Turn]) -> None:
    with own_work():
        turns.pop().end()


def _compute(sought: Sought, computation: Computation) -> Any:
    value = sought.read()  # It may have come since this thread looked.
    if value is MISSING:
        value = sought.compute(sought.instance)
        publish(sought, value, computation)
    computation.value = value
    return value


def _wait(recipe: Recipe, computation: Computation) -> Any:
    """Wait for another thread's computation; return its value, or `MISSING` where it failed."""
    me = threading.get_ident()
    before = _waiting.get(me)  # A signal's handler may wait while its thread does.
    _waiting[me] = computation  # First, so that of two threads that look at once one sees both.
    try:
        _refuse_circle(recipe, computation, me)
        while not computation.computing.acquire(timeout=_LOOK_SECONDS):
            if computation.abandoned:
                return MISSING
        computation.computing.release()
        return computation.value
    finally:
        if before is None:
            _waiting.pop(me, None)
        else:
            _waiting[me] = before


def _refuse_circle(recipe: Recipe, computation: Computation, me: int) -> None:
    following: Computation | None = computation
    seen: set[int] = set()
    while following is not None and following.owner not in seen:
        if following.owner == me:
            raise circular(recipe)
        seen.add(following.owner)
        following = _waiting.get(following.owner)


def _after_fork_in_child() -> None:
    """Go on with what the forking thread computes; forget what others did, who are not here."""
    global _publishing  # noqa: PLW0603 -- another thread of the parent's may have held it
    _publishing = threading.RLock()
    _waiting.clear()
    me = threading.get_ident()
    for key, computation in tuple(_under_way.items()):
        if computation.owner == me:
            computation.computing = threading.Lock()
            computation.computing.acquire()
        else:
            _under_way.pop(key, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
