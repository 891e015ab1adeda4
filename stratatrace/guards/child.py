"""What runs in the child process of an isolated call, and what it says to its parent.

It says twice: how much memory it had when it began, and then its answer. Each is eight bytes of
length and a pickle.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratatrace.errors import MemoryLimitExceeded
from stratatrace.guards.leaving import leave
from stratatrace.guards.opened import OpenLimit
from stratatrace.guards.watchdog import watchdog
from stratatrace.measurement import Measurement, error_type_of
from stratatrace.recorder import Recorder, active
from stratatrace.windows import Window

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from stratatrace.config import Config
    from stratatrace.measurement import Callsite

__all__ = ["LENGTH_BYTES", "Answer", "Job", "main"]

#: Of the number that stands before each message.
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a child is to do."""

    #: The function, its arguments and its keyword arguments, or a pickle of them.
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | bytes
    callsite: Callsite
    budget_bytes: int
    #: Resident memory of the parent, of which a forked child has a share that it has not touched.
    floor_bytes: int
    #: How to measure; None as this process does anyway.
    config: Config | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How it went."""

    #: Pickles; None for what could not be pickled.
    result: bytes | None = None
    error: bytes | None = None
    #: The child's traceback, or why something could not be pickled.
    text: str = ""
    measurement: Measurement | None = None


def main(sender: Connection, job: Job, unwrap: Callable[[Any], Any]) -> None:
    """Do the job under its limit, and answer.

    Args:
        sender: Where to.
        job: What to do.
        unwrap: Returns the bare function of an isolated one.
    """
    try:
        call = pickle.loads(job.call) if isinstance(job.call, bytes) else job.call  # noqa: S301 -- the parent's
    except Exception as error:
        text = f"it could not be read in the child: {error!r}"
        _send(sender, 0)
        _send(sender, Answer(text=text))
        return
    function, args, kwargs = call
    limit = OpenLimit(job.budget_bytes, job.callsite, None)
    limit.told = True  # The parent tells.
    watchdog.open(limit)
    limit.base_bytes = max(limit.base_bytes, job.floor_bytes)
    _confine(limit.ceiling_bytes)
    _send(sender, limit.base_bytes)
    window = _open_window(job.config)
    try:
        try:
            if window is not None:
                window.resume()
            try:
                result = unwrap(function)(*args, **kwargs)
            finally:
                if window is not None:
                    window.pause()
        except BaseException as error:
            leave(limit, error)
            raise
        leave(limit, None)
    except BaseException as error:  # All of it is the parent's.
        answer = _failed(error, _numbers(window, job.callsite, error))
    else:
        answer = _returned(result, _numbers(window, job.callsite, None))
    _send(sender, answer)


def _confine(ceiling_bytes: int | None) -> None:
    """Lower the hard limit too: this process will never need it back."""
    if sys.platform == "linux" and ceiling_bytes is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or ceiling_bytes < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, ceiling_bytes))


def _open_window(config: Config | None) -> Window | None:
    """Return a window that is suspended; None where nothing is measured."""
    try:
        if config is not None:
            recorder = Recorder(config)
            recorder.start()
        elif active.enabled:
            recorder = active.recorder
        else:
            return None
        window = Window(recorder.accounts)
        window.open(trace_heap=True)
    except Exception:
        return None
    return window


def _numbers(
    window: Window | None, callsite: Callsite, error: BaseException | None
) -> Measurement | None:
    if window is None:
        return None
    with suppress(Exception):  # What could not be read is missing in the numbers.
        window.close()
    try:
        return Measurement(
            callsite=callsite,
            error_type=error_type_of(error),
            **window.numbers(),
        )
    except Exception:
        return None


def _returned(result: object, measurement: Measurement | None) -> Answer:
    try:
        return Answer(result=pickle.dumps(result), measurement=measurement)
    except MemoryError as error:
        refused = MemoryLimitExceeded("there was no memory left to send the result to the parent")
        refused.__cause__ = error
        return _failed(refused, measurement)
    except Exception as error:
        text = f"its result, {type(result).__qualname__!r}, cannot be pickled: {error!r}"
        return Answer(text=text, measurement=measurement)


def _failed(error: BaseException, measurement: Measurement | None) -> Answer:
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 -- what was written here; some cannot be read again
    except Exception:
        pickled = None
    return Answer(error=pickled, text=text, measurement=measurement)


def _send(sender: Connection, message: object) -> None:
    data = pickle.dumps(message)
    for part in (len(data).to_bytes(LENGTH_BYTES, "big"), data):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(sender.fileno(), rest) :]
