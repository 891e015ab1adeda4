"""A script that has never heard of telemetry. Its argument is how many bytes it takes."""

import sys


def make(size: int) -> bytearray:
    """Take memory."""
    return bytearray(size)


def total(sizes: list[int]) -> int:
    """Take memory several times, never twice at once."""
    return sum(len(make(size)) for size in sizes)


def main(size: int) -> None:
    """Take a size, then half of it."""
    sys.stdout.write(f"took {total([size, size // 2])}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
