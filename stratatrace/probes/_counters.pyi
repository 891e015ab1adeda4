# What each thread allocates and frees, to the byte: the compiled part of the native heap probe.
#
# All numbers are of the calling thread unless told otherwise. Reading them does not change them,
# but for the tuple that is returned.

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
