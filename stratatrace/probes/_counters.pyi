"""What each thread allocates and frees, to the byte: the compiled part of the native heap probe.

All numbers are of the calling thread unless told otherwise. Reading them does not change them, but
for the tuple that is returned.
"""

def start() -> None:
    """Begin to count, in every thread; nothing where it was begun before.

    What was allocated before is untracked: freeing it counts nothing, and reallocating it counts as
    an allocation of the new size.
    """

def stop() -> None:
    """Count no more, and give the memory of the map back.

    Where somebody else's hooks stand above ours, ours stay below them and only forward.
    """

def is_counting() -> bool:
    """Return whether counting was begun."""

def mark() -> tuple[int, int]:
    """Return the live bytes and their highest since the last mark, from which it starts anew.

    Live bytes are those allocated by this thread less those freed by it: negative where it frees
    what others have allocated.
    """

def counts() -> tuple[int, int, int, int]:
    """Return allocated bytes, allocations, freed bytes and frees, since the thread began.

    A reallocation is a free of the old size and an allocation of the new one.
    """

def count_numpy() -> bool:
    """Count the data of numpy's arrays in every thread.

    Returns:
        False where numpy is not imported, or allocates in a way that is not known.
    """

def forget_numpy() -> None:
    """Undo `count_numpy`."""

def held_bytes() -> int:
    """Return the memory that the map of block sizes takes, of the whole process."""

def free_list_bytes() -> int | None:
    """Return the bytes in the free lists of the interpreter, or None where they cannot be known.

    An object that goes to a free list is not freed, and one from there is not allocated.
    """
