# What each thread allocates and frees, to the byte: the compiled part of the native heap probe.
#
# All numbers are of the calling thread unless told otherwise. Reading them does not change them,
# but for the tuple that is returned.

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol, Self, TypeVar, final

_T = TypeVar("_T")

# Begin to count, in every thread; nothing where it is counting. What was allocated before is
# untracked: freeing it counts nothing, and reallocating it counts as an allocation of the new size.
def start() -> None: ...

# Count no more, and give the memory of the map back. Where somebody else's hooks stand above ours,
# ours stay below them and only forward.
def stop() -> None: ...

# Whether counting was begun, and nobody has taken the hooks out since. A tool that hooked the
# allocators before us and ends after us, as `tracemalloc.stop` does, puts back what was there
# before both; the next `start` begins anew then.
def is_counting() -> bool: ...

# The live bytes, and their highest since the last mark, from which it starts anew. Live bytes are
# those allocated by this thread less those freed by it: negative where it frees what others have
# allocated. Only the difference of two means something.
def mark() -> tuple[int, int]: ...

# Allocated bytes, allocations, freed bytes and frees, since the thread began. A reallocation is a
# free of the old size and an allocation of the new one.
def counts() -> tuple[int, int, int, int]: ...

# Count the data of numpy's arrays, in every thread. False where numpy is not imported, or allocates
# in a way that is not known.
def count_numpy() -> bool: ...

# Undo `count_numpy`.
def forget_numpy() -> None: ...

# The memory that the map of block sizes takes, for the whole process.
def held_bytes() -> int: ...

# The bytes in the free lists of the interpreter, or None where they cannot be known. An object that
# goes to a free list is not freed, and one from there is not allocated.
def free_list_bytes() -> int | None: ...

# Our own work begins: the bytes that the program has taken from free lists of what our work left
# there, and nobody has counted.
def leftovers_used() -> int: ...

# Our own work has ended: what it has left is remembered.
def leftovers_leave() -> None: ...

# What is idle now is the program's.
def leftovers_forget() -> None: ...

# Run a step of a call, between its `resume` and its `suspend`: send the item of a list of one to an
# iterator, and put there what it yields or returns, or have the last argument do so. Whether it has
# returned. No StopIteration is made on the way.
def advance(
    call: Any, steps: Any, box: list[Any], send: Callable[[Any, list[Any]], bool] | None, /
) -> bool: ...

# Who tells by an attribute `enabled` whether to measure at all, and who returns the tally of a
# measured call, the call itself where it has begun already, or the Thinning of one that is not to
# be measured. As long as that has some left, nobody is asked.
def set_gate(switch: object, begin: Callable[[Any], Any], /) -> None: ...

# The subclass of a type whose instances, once connected, call their target between `begin` and the
# `finish` of what that returned. Arguments are passed on as they come, with no tuple made of them.
# With a *begin* of its own, that is called in place of the gate's: it takes the arguments, as a
# tuple and a dictionary or None, and returns a call that has begun, or None. The call's `returned`
# is told the result.
def callable_type(base: type[_T], /) -> type[_T]: ...
def connect(
    instance: object,
    target: Callable[..., Any],
    callsite: object,
    begin: Callable[[tuple[Any, ...], dict[str, Any] | None], Any] = ...,
    /,
) -> None: ...

# Sample what is allocated from now on, in every thread: each byte is drawn by a chance of 1 to the
# mean, and a block is in the sample if one of its bytes was. So many frames are kept of where that
# was. The same seed draws the same bytes; 0 goes on with the numbers that there are. With a mean of
# 0, sample no more, and forget all samples. Called again, it changes the mean and the depth of the
# samples to come. Threads that run already begin within 16 KiB of what they allocate.
# RuntimeError where nothing is counted, or the frames of this Python are not known.
def sample(mean_bytes: int, depth: int, seed: int = 0, /) -> None: ...

# Births and deaths in the sample are numbered from 1 on, for the whole life of the process. The
# newest one's number.
def samples_sequence() -> int: ...

# The live blocks of the sample, in no order: the number of the birth, the size, the stack, the line
# that allocated it, and the mean it was drawn by. The line is 0 where no call was ever measured in
# that thread.
def samples_live() -> list[tuple[int, int, int, int, int]]: ...

# The events after that one: its number, whether it is a death; the birth's number, the size, and
# the stack of the birth; the line that allocated or freed the block; the mean it was drawn by; the
# live bytes of the line after that. None where some are overwritten, or of an earlier sampling.
def samples_events(
    since: int, /
) -> list[tuple[int, bool, int, int, int, int, int, int]] | None: ...

# The frames of a stack, the innermost first: file, qualified name and line. Empty for the stack 0,
# which is that of threads without the GIL and of other interpreters, and for those of a sampling
# that has ended.
def samples_stack(stack: int, /) -> tuple[tuple[str, str, int], ...]: ...

# How many blocks were drawn that there was no room for, since sampling began.
def samples_dropped() -> int: ...

# The number of the line that the calling thread runs.
def samples_line() -> int: ...

# The traces of tracemalloc, which the function returns as they are, added up: the bytes and the
# blocks of each stack.
def sum_traces(
    get_traces: Callable[[], list[Any]], /
) -> dict[tuple[tuple[str, int], ...], tuple[int, int]]: ...

# In a forked child: no tab is open, and calls from before are the parent's to tell of.
def after_fork_in_child() -> None: ...

# What one call has run up on one account.
class Tab:
    # The account's level at which this tab stands at zero.
    @property
    def base_bytes(self) -> int: ...
    # What was run up until the last release, and the highest that it ever stood.
    @property
    def net_bytes(self) -> int: ...
    @property
    def peak_bytes(self) -> int: ...
    # Gross; they mean something while the tab is not open.
    @property
    def allocated_bytes(self) -> int: ...
    @property
    def allocations(self) -> int: ...
    @property
    def open(self) -> bool: ...
    # Whether it was ever open.
    @property
    def charged(self) -> bool: ...
    # Whether one of its ends could not be read: then the rest means nothing.
    failed: bool

# A stretch of our own work, which is charged to nobody. It ends by `unhold`, or when it is
# dropped, as it is where an exception was thrown into the thread.
@final
class Hold: ...

# A line of execution, with counters and tabs of its own: the thread that is on it has them in place
# of its own, and the tabs of the line on whose behalf it was begun are charged as well.
@final
class Line: ...

# The ledger of the heap of whichever thread calls.
class HeapAccount:
    # Charge a tab from now on; with a second argument, that hold ends here.
    def charge(self, tab: Tab, held: Hold | None = None, /) -> None: ...
    # Charge it no more; a hold begins, or None where it was not charged. RuntimeError where it was
    # charged in another thread: its numbers mean nothing then.
    def release(self, tab: Tab, /) -> Hold | None: ...
    # Charge nobody until `unhold`. Holds may be nested.
    def hold(self) -> Hold: ...
    # Go on charging, once for each hold; return what was taken since it began. So many bytes of our
    # own will be dropped after this.
    def unhold(self, held: Hold, dropped_bytes: int = 0, /) -> int: ...
    # Whether a tab of this line is open, or of one that it works for.
    @property
    def charging(self) -> bool: ...
    # A new line, on behalf of the one that runs.
    def line(self) -> Line: ...
    # Whether a line runs that is not the thread's own.
    @property
    def followed(self) -> bool: ...
    # Call something as a part of a line.
    def run(
        self, line: Line, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any: ...
    # Run the next step of a coroutine as a part of a line.
    def send(self, line: Line, coroutine: Any, value: Any, /) -> Any: ...
    # The collector has run on this line, for so many ns, and freed so many bytes.
    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None: ...

# The ledger of the process's resident memory, as the kernel's high-water mark tells it (Linux).
class ResidentAccount:
    # Of /proc/self/clear_refs, open for writing.
    descriptor: int
    # Both raise OSError where the mark cannot be reset.
    def charge(self, tab: Tab, /) -> None: ...
    def release(self, tab: Tab, /) -> None: ...
    @property
    def charging(self) -> bool: ...
    # The highest of the process's life, which the resets hide from others.
    @property
    def lifetime_peak_bytes(self) -> int: ...

class _Counter(Protocol):
    # A call has ended that was not measured.
    def count(self, error: BaseException | None, /) -> None: ...

# The calls of one callsite that are not measured: one object that stands for each of them, and
# counts those that return. It keeps `stratatrace.governor.Turns`.
@final
class Thinning:
    left: int
    weight: float
    own_ns: int
    @property
    def keeper(self) -> Any: ...
    # Whether the keeper is told of all that end.
    retired: bool
    # While *busy* is not empty, all calls go the long way.
    def __new__(cls, keeper: _Counter, busy: dict[Any, Any]) -> Self: ...
    def resume(self) -> None: ...
    def suspend(self) -> None: ...
    def finish(self, error: BaseException | None = None, /) -> None: ...
    # How many have returned since this was last called.
    def take(self) -> int: ...

class _Keeper(Protocol):
    # Where a call goes that ended with this error.
    def tally_of(self, error: BaseException, /) -> Tally: ...
    # A call's number could not be had; the text completes "could not ...".
    def missed(self, doing: str, /) -> None: ...

# The sums of the calls of one callsite that are told by nothing but sums.
class Tally:
    def __new__(
        cls,
        keeper: _Keeper,
        *,
        heap: bool,
        resident: ResidentAccount | None,
        budget_bytes: int | None,
    ) -> Self: ...
    # Of the calls that are not measured: their weight, and where to put what measuring costs; None
    # where all are measured, and it cannot be set to that again.
    @property
    def thinning(self) -> Thinning | None: ...
    @thinning.setter
    def thinning(self, thinning: Thinning) -> None: ...
    # A call that is charged from now on, and one that is suspended.
    def begin(self) -> TalliedCall: ...
    def prepare(self) -> TalliedCall: ...
    # Calls that have begun and not ended.
    @property
    def in_flight(self) -> int: ...
    # The sums since this was last called, and then they begin anew; None where there was no call.
    # See `stratatrace.measurement.Sums`.
    def take(self) -> tuple[Any, ...] | None: ...

@final
class TalliedCall:
    def resume(self) -> None: ...
    def suspend(self) -> None: ...
    def finish(self, error: BaseException | None = None, /) -> None: ...

# Measure a span from here on: its call becomes an attribute of it, and the class, whose instances
# end the call, its class. Other tasks may be in its heap where it takes turns with them.
def begin_span(tally: Tally, span: object, measured: type, takes_turns: bool, /) -> None: ...

# Measure it to here, and put its numbers into the mapping, unless it took less ns. The names are
# those of the numbers by their importance, None for what is not wanted; there is room for so many.
# None where all is well; else whether it was ended by a thread other than the one that it ran in,
# which may have taken some of its memory, and how many numbers had no room.
def end_span(
    call: TalliedCall,
    attributes: MutableMapping[str, Any],
    names: tuple[str | None, ...],
    room: int,
    least_ns: int,
    /,
) -> tuple[bool, bool, int] | None: ...
