"""Sizes of memory: text to bytes and back. Pure; knows nothing of probes or telemetry."""

from __future__ import annotations

import re

from stratatrace.errors import InvalidTypeError, InvalidValueError

__all__ = ["format_size", "parse_size"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_STEP = 1024
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def parse_size(size: int | str) -> int:
    """Return a size in bytes.

    Args:
        size: Bytes as an int, or text such as ``"200MB"`` (10**6) or ``"64 KiB"`` (2**10).

    Raises:
        InvalidValueError: The text is not a size, or the size is not positive.
        InvalidTypeError: It is neither an int nor text.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        msg = f"a size is an int of bytes or text like '200MB', not {size!r}"
        raise InvalidTypeError(msg)
    if isinstance(size, int):
        parsed = size
    else:
        match = _SIZE.fullmatch(size)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            msg = (
                f"{size!r} is not a size: give bytes as an int, or a number and one of "
                "B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)"
            )
            raise InvalidValueError(msg)
        number = match[1]
        parsed = round(float(number) * unit) if "." in number else int(number) * unit
    if parsed <= 0:
        msg = f"a size must be greater than zero, and {size!r} is not"
        raise InvalidValueError(msg)
    return parsed


def format_size(size_bytes: int) -> str:
    """Return a size for people, in powers of 1024: ``1536`` is ``"1.5 KiB"``."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(abs(amount), 1) < _STEP:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} TiB"
