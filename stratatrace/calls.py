"""How calls begin: which of them are measured, and how much is told of each."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from stratatrace.errors import NotReadyError
from stratatrace.measured_call import NO_CALL, Call, GovernedCall
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.measurement import Callsite
    from stratatrace.probes._counters import TalliedCall, Tally, Thinning
    from stratatrace.recorder import Recorder
    from stratatrace.thinning import PlainThinning, Thinnings
    from stratatrace.typing import AttributeValue

__all__ = [
    "NO_CALL",
    "AnyCall",
    "Call",
    "annotate",
    "begin",
    "begin_here",
    "begin_kept",
    "misplaced",
    "prepare",
    "recorder_if_measuring",
]

_logger = logging.getLogger("stratatrace")

AnyCall: TypeAlias = "Call | TalliedCall | Thinning | PlainThinning"


def prepare(callsite: Callsite, *, keep: bool = False) -> AnyCall:
    """Return a call that is still suspended; one that does nothing where measuring is off.

    Args:
        callsite: What is called.
        keep: Measure it in full, and its heap whatever the sample ratio says: somebody will ask for
            its numbers.
    """
    recorder = recorder_if_measuring()
    if recorder is None:
        return NO_CALL
    if recorder.thinnings is not None and not keep:
        return _prepare_governed(recorder, recorder.thinnings, callsite)
    tally = None if keep else recorder.tally_for(callsite)
    if tally is not None:
        return tally.prepare()
    held = recorder.hold()
    try:
        call = _new_call(recorder, callsite)
        call.open(None, trace_heap=keep, porous=False)
    finally:
        recorder.unhold(held)
    return call


def begin(callsite: Callsite) -> Call | Tally | Thinning | PlainThinning:
    """Return where a call is only added up or counted, or a call that is charged from now on.

    The compiled part begins the call of a tally by itself: an exception that is thrown into the
    thread at this moment finds none that nobody would end.
    """
    recorder = _recorder()
    if recorder is None:
        return NO_CALL
    if recorder.thinnings is not None:
        return _begin_governed(recorder, recorder.thinnings, callsite)
    return recorder.tally_for(callsite) or _begin(recorder, callsite)


def begin_here(callsite: Callsite) -> AnyCall:
    """Return a call that is charged from now on, where nothing is compiled."""
    recorder = recorder_if_measuring()
    if recorder is None:
        return NO_CALL
    if recorder.thinnings is not None:
        return cast("AnyCall", _begin_governed(recorder, recorder.thinnings, callsite))
    return _begin(recorder, callsite)


def begin_kept(
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call:
    """Return a call that is being charged from now on, and whose numbers somebody will ask for.

    Args:
        callsite: What is called.
        attributes: Attributes of this one call's span.
        trace_heap: Measure the heap of this call whatever the sample ratio says.
        porous: Whether it can be suspended without a word to us: see `Window`.
    """
    recorder = recorder_if_measuring()
    if recorder is None:
        return NO_CALL
    return _begin(recorder, callsite, attributes, trace_heap=trace_heap, porous=porous)


def _begin(
    recorder: Recorder,
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call:
    held = recorder.hold()
    call = None
    try:
        call = _new_call(recorder, callsite)
        call.open(attributes, trace_heap=trace_heap, porous=porous)
        call.begin_step(held)
    except BaseException:  # The program is interrupted: what it takes from here is its own.
        if call is not None:
            call.suspend()
        recorder.unhold(held)
        raise
    return call


def _new_call(recorder: Recorder, callsite: Callsite) -> Call:
    """Return a call whose numbers somebody asks for, or one of a program that measures all."""
    if recorder.governor is None:
        return Call(recorder, callsite)
    return GovernedCall(recorder, callsite, recorder.governor.fixed)


def _begin_governed(
    recorder: Recorder, thinnings: Thinnings, callsite: Callsite
) -> Call | Tally | Thinning | PlainThinning:
    thinned = thinnings.passes(callsite)
    if thinned is not None:
        return thinned
    held = recorder.hold()
    begun = None
    try:
        begun = _choose(recorder, thinnings, callsite)
        if isinstance(begun, GovernedCall):
            begun.begin_step(held)
        else:
            recorder.unhold(held)
    except BaseException:  # As in `_begin`.
        if isinstance(begun, GovernedCall):
            begun.suspend()
        recorder.unhold(held)
        raise
    return begun


def _prepare_governed(recorder: Recorder, thinnings: Thinnings, callsite: Callsite) -> AnyCall:
    thinned = thinnings.passes(callsite)
    if thinned is not None:
        return thinned
    held = recorder.hold()
    try:
        began_ns = time.perf_counter_ns()
        chosen: Any = _choose(recorder, thinnings, callsite)
        if not hasattr(chosen, "prepare"):
            return cast("AnyCall", chosen)
        # The steps are timed by the compiled part itself, which has not seen this.
        call: TalliedCall = chosen.prepare()
        chosen.thinning.own_ns += time.perf_counter_ns() - began_ns
        return call
    finally:
        began_ns = 0
        recorder.unhold(held)


def _choose(
    recorder: Recorder, thinnings: Thinnings, callsite: Callsite
) -> Call | Tally | Thinning | PlainThinning:
    """Return what becomes of a call: left out, added up, or told in full, and then suspended."""
    try:
        site = thinnings.site_of(callsite)
        turns: Any = site.turns
        began_ns = time.perf_counter_ns()
        if not thinnings.governor.admits(site):
            return cast("Thinning | PlainThinning", turns)
        tally = recorder.tally_for(callsite)
        if tally is not None:
            tally.thinning = turns
            return tally
        call = GovernedCall(recorder, callsite, site.turns, site.ratio, began_ns)
    except Exception:
        recorder.guard.caught(callsite, "decide whether to measure a call")
        return NO_CALL
    call.open(None, trace_heap=False, porous=False)
    return call


def annotate(call: AnyCall, attributes: Mapping[str, AttributeValue]) -> None:
    """Put on a call's span what is known only while it runs; nothing where it has no span."""
    if isinstance(call, Call):
        call.annotate(attributes)


def misplaced(callsite: Callsite, doing: str) -> None:
    """Count an end that has no beginning.

    Args:
        callsite: Where it happened.
        doing: What cannot be done, to complete the sentence "stratatrace could not ...".
    """
    recorder = _recorder()
    if recorder is not None:
        error = NotReadyError("it was not entered, or was left before")
        recorder.guard.caught(callsite, doing, error)


def recorder_if_measuring() -> Recorder | None:
    """Return who measures; None where nobody does.

    That is so when the interpreter ends too, for which the compiled part looks by itself. Then
    threads have died, maybe with a lock in their hands: who waits for it, waits for ever.
    """
    return None if sys.is_finalizing() else _recorder()


def _recorder() -> Recorder | None:
    if not active.enabled:
        return None
    try:
        recorder = active.recorder
    except (MemoryError, RecursionError):  # There is no room now; there may be at the next call.
        return None
    except Exception:
        active.enabled = False
        _logger.warning("stratatrace could not start and is off", exc_info=True)
        return None
    if recorder.config.disabled or recorder.work.is_under_way:
        return None
    return recorder
