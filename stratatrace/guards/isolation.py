"""Calls in a child process: the one limit that nothing gets around.

The child has the hybrid limit and a hard RLIMIT_DATA, and its parent looks at it from outside and
ends what is beyond both. A child that is forked while other threads run may wait for ever for a
lock that one of them held, so it is forked only where there is no other thread, and started anew
(``spawn``) elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from stratatrace.errors import (
    InvalidTypeError,
    IsolationError,
    IsolationTimeoutError,
    MemoryLimitExceeded,
)
from stratatrace.guards import child
from stratatrace.guards.opened import OpenLimit
from stratatrace.guards.telling import tell
from stratatrace.guards.threads import is_single_threaded
from stratatrace.guards.usage import UsageReader
from stratatrace.guards.watchdog import room_bytes, watchdog
from stratatrace.measurement import Measurement, error_type_of
from stratatrace.recorder import active
from stratatrace.sizes import format_size
from stratatrace.wrapping import WrappedFunction, kind_of, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from stratatrace.config import Config
    from stratatrace.measurement import Callsite
    from stratatrace.telemetry.spans import SpanScope

__all__ = ["ISOLATIONS", "IsolatedFunction", "Isolation", "isolated"]

#: What `memory_limit(isolation=)` accepts, and what each means.
ISOLATIONS = {
    "process": "forked where this process has one thread only, else started anew",
    "fork": "forked, whatever threads there are",
    "spawn": "started anew: what is run, and its arguments, must be picklable",
    "forkserver": "forked from a small process that is started once; picklable likewise",
}

_LOOK_SECONDS = 0.005
_READ_BYTES = 1 << 20
# How long a child may stay over its budget: it ends itself much sooner, unless it hangs.
_OVERDUE_SECONDS = 2.0


class IsolatedFunction(WrappedFunction):
    """A function whose calls run in child processes."""


class ChildTraceback(Exception):  # noqa: N818 -- it is the cause of an error, and none itself
    """The traceback of an exception in the child that raised it."""

    def __str__(self) -> str:
        """Return its text, from a line of its own."""
        return f"\n{self.args[0]}"


def isolated(
    function: Callable[..., Any], callsite: Callsite, isolation: Isolation
) -> IsolatedFunction:
    """Return *function*, run in a child process at every call.

    Args:
        function: What to run.
        callsite: How it is described.
        isolation: How to run it.
    """

    def __call__(self: IsolatedFunction, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        # Where it has to be pickled, it is sent as what its name leads to: mostly itself.
        sent = function if isolation.forks or not _is_picklable(self) else self
        return isolation.run(sent, args, kwargs, callsite)[0]

    return wrapped(function, __call__, (isolated, callsite, isolation), IsolatedFunction)


class Isolation:
    """How calls are run in children.

    Args:
        budget_bytes: By how much a child may grow.
        method: One of `ISOLATIONS`.
        timeout_seconds: How long a call may take; None is for ever.
    """

    def __init__(self, budget_bytes: int, method: str, timeout_seconds: float | None) -> None:
        self._budget_bytes = budget_bytes
        self._method = method
        self._timeout_seconds = timeout_seconds

    @property
    def forks(self) -> bool:
        """Whether a child that was started now would be forked."""
        return self._chosen_method() == "fork"

    @staticmethod
    def check(function: Callable[..., Any]) -> None:
        """Raise InvalidTypeError where a callable cannot be run in a child."""
        kind = kind_of(function)
        if kind != "function":
            msg = (
                f"isolation runs a function to its end in a child process, and {function!r} is a "
                f"{kind} function: isolate a function that runs it there"
            )
            raise InvalidTypeError(msg)

    def isolated(self, function: Callable[..., Any], callsite: Callsite) -> IsolatedFunction:
        """Return a function that is run in a child at every call."""
        return isolated(function, callsite, self)

    def run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callsite: Callsite,
    ) -> tuple[Any, Measurement | None]:
        """Run a function in a child; return its result, and the child's numbers.

        Args:
            function: What to run.
            args: Its arguments.
            kwargs: Its keyword arguments.
            callsite: How the call is described.

        Raises:
            MemoryLimitExceeded: The child grew too much.
            IsolationError: Something could not be sent or brought back, or the child died.
            IsolationTimeoutError: It took too long.
            BaseException: Whatever the function raises.
        """
        method = self._chosen_method()
        job = child.Job(
            call=(function, args, kwargs) if method == "fork" else _pickled(function, args, kwargs),
            callsite=callsite,
            budget_bytes=self._budget_bytes,
            floor_bytes=_resident_bytes() if method == "fork" else 0,
            config=_config() if method != "fork" else None,
        )
        told = _Telling(callsite)
        limit = OpenLimit(self._budget_bytes, callsite, None)  # Of which only is told.
        try:
            answer = _Child(job, method, self._timeout_seconds).answer()
            told.measurement = answer.measurement
            return _result_of(answer, callsite), answer.measurement
        except BaseException as error:
            told.error = error
            if isinstance(error, MemoryLimitExceeded):
                tell(limit, error)
            raise
        finally:
            told.end()

    def _chosen_method(self) -> str:
        if self._method != "process":
            return self._method
        watchdog.rest()  # Ours is no reason: it holds no lock that the child would need.
        return "fork" if is_single_threaded() else "spawn"


class _Child:
    """A child process at work."""

    def __init__(self, job: child.Job, method: str, timeout_seconds: float | None) -> None:
        self._job = job
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        context: Any = multiprocessing.get_context(method)
        self._receiver: Connection
        self._receiver, sender = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=child.main, args=(sender, job, bare), name="stratatrace-isolated"
        )
        self._received = bytearray()
        self._reader: UsageReader | None = None
        self._over_since: float | None = None
        try:
            self._process.start()
        except AssertionError as error:
            self._receiver.close()
            msg = "a daemonic process, such as a pool's worker, cannot have children: run it there"
            raise IsolationError(msg) from error
        except BaseException:  # An interrupt as well leaves nobody to close it.
            self._receiver.close()
            raise
        finally:
            sender.close()
        if self._process.pid is not None:
            watchdog.release_child(self._process.pid)

    def answer(self) -> child.Answer:
        """Wait for the child's answer."""
        try:
            base_bytes: int = self._message(None)
            answer: child.Answer = self._message(base_bytes)
            self._process.join(1)
            return answer
        finally:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()
            self._process.close()
            self._receiver.close()
            if self._reader is not None:
                self._reader.close()

    def _message(self, base_bytes: int | None) -> Any:
        """Return the next message of the child, and look after it while it takes its time."""
        descriptor = self._receiver.fileno()
        os.set_blocking(descriptor, False)
        while (message := self._complete()) is None:
            ready = wait([self._receiver, self._process.sentinel], _LOOK_SECONDS)
            try:
                received = os.read(descriptor, _READ_BYTES)
                self._received += received
            except BlockingIOError:
                received = None
            if received == b"" or (received is None and self._process.sentinel in ready):
                self._died()
            if not received:
                self._look(base_bytes)
        return pickle.loads(message)  # noqa: S301 -- the child's

    def _complete(self) -> bytes | None:
        start = child.LENGTH_BYTES
        if len(self._received) < start:
            return None
        end = start + int.from_bytes(self._received[:start], "big")
        if len(self._received) < end:
            return None
        message = bytes(self._received[start:end])
        del self._received[:end]
        return message

    def _look(self, base_bytes: int | None) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            name = self._job.callsite.name
            msg = f"{name} took more than {self._timeout_seconds:g} s in its process, and was ended"
            raise IsolationTimeoutError(msg)
        if base_bytes is None:
            return
        if self._reader is None:
            self._reader = UsageReader(f"/proc/{self._process.pid}/statm")
        resident_bytes = self._reader.read_other()
        if resident_bytes is None or resident_bytes - base_bytes <= self._job.budget_bytes:
            self._over_since = None
            return
        used_bytes = resident_bytes - base_bytes
        now = time.monotonic()
        self._over_since = self._over_since or now
        overdue = now > self._over_since + _OVERDUE_SECONDS
        if overdue or used_bytes > room_bytes(self._job.budget_bytes):
            raise self._exceeded(used_bytes)

    def _exceeded(self, used_bytes: int) -> MemoryLimitExceeded:
        job = self._job
        msg = (
            f"{job.callsite.name}: its process has grown by {format_size(used_bytes)}, and was "
            f"ended: its limit is {format_size(job.budget_bytes)}"
        )
        return MemoryLimitExceeded(
            msg, budget_bytes=job.budget_bytes, used_bytes=used_bytes, callsite=job.callsite
        )

    def _died(self) -> None:
        self._process.join(1)
        code, name = self._process.exitcode, self._job.callsite.name
        if code is not None and code < 0:
            why = f"was ended by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                why += ", as the kernel does where the machine or the container is out of memory"
        else:
            why = f"ended with status {code}"
        msg = f"the process of {name} {why}, before it could answer"
        raise IsolationError(msg, exit_code=code)


class _Telling:
    """The span and the metrics of a call whose numbers come from elsewhere. Never raises."""

    def __init__(self, callsite: Callsite) -> None:
        self._callsite = callsite
        self._scope: SpanScope | None = None
        #: The child's numbers, where it could send them; what was raised in the parent.
        self.measurement: Measurement | None = None
        self.error: BaseException | None = None
        if active.enabled:
            try:
                self._scope = active.recorder.spans.open(callsite, None)
                if self._scope is not None:
                    self._scope.enter()
            except Exception:
                active.recorder.guard.caught(callsite, "start a span")

    def end(self) -> None:
        """Hand to the sinks what there is."""
        if not active.enabled:
            return
        recorder = active.recorder
        with active.own_work():
            try:
                if self._scope is not None:
                    self._scope.leave()
            except Exception:
                recorder.guard.caught(self._callsite, "leave a span")
            measurement = self.measurement or Measurement(
                callsite=self._callsite, error_type=error_type_of(self.error)
            )
            for sink in recorder.sinks:
                try:
                    sink.emit(measurement, self._scope)
                except Exception:
                    kind = type(sink).__name__
                    recorder.guard.caught(self._callsite, f"hand a measurement to {kind}")


def bare(function: Any) -> Any:
    """Return what is inside an isolated function: the child is where it is to run."""
    while isinstance(function, IsolatedFunction):
        function = function.__wrapped__
    return function


def _pickled(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps((function, args, kwargs))
    except Exception as error:
        what = "its arguments" if _is_picklable(function) else "it"
        msg = (
            f"{function!r} cannot be sent to a process of its own, because {what} cannot be "
            f"pickled ({error}): use a function of a module, and plain arguments, or "
            "isolation='fork' where no other threads run"
        )
        raise IsolationError(msg) from error


def _is_picklable(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _result_of(answer: child.Answer, callsite: Callsite) -> Any:
    if answer.result is not None:
        try:
            return pickle.loads(answer.result)  # noqa: S301 -- the child's
        except Exception as error:
            msg = f"the result of {callsite.name} could not be read from its process: {error!r}"
            raise IsolationError(msg) from error
    raised = _error_of(answer)
    if raised is None:
        msg = (
            f"{callsite.name} ran in a process of its own, and could not be answered: {answer.text}"
        )
        raise IsolationError(msg)
    raised.__cause__ = ChildTraceback(answer.text)
    if isinstance(raised, MemoryLimitExceeded):
        raised.callsite = raised.callsite and callsite
        raised.measurement = answer.measurement
    raise raised


def _error_of(answer: child.Answer) -> BaseException | None:
    if answer.error is None:
        return None
    try:
        error: BaseException = pickle.loads(answer.error)  # noqa: S301 -- the child's
    except Exception:
        return None
    return error


def _resident_bytes() -> int:
    reader = UsageReader()
    try:
        return reader.read().resident_bytes
    finally:
        reader.close()


def _config() -> Config | None:
    """Return how this process measures, for a child that is started anew; None if not at all."""
    if not active.enabled:
        return None
    config = active.recorder.config
    try:
        pickle.dumps(config)
    except Exception:  # A scorer of the user's own may be anything; the child does not score.
        return None
    return config
