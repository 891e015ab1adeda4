"""What grew, as a profile that pprof reads: `go tool pprof`, Pyroscope, speedscope and others.

The messages are made by protobuf from a description of pprof's own, of which only the fields that
are written stand here: https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import gzip
from functools import cache
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.growth_texts import UNKNOWN
from stratatrace.errors import MissingExtraError
from stratatrace.stacks import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratatrace.stacks import StackGrowth

__all__ = ["pprof"]

_PACKAGE = "perftools.profiles"
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Sample": {"location_id": (1, "uint64[]"), "value": (2, "int64[]")},
    "Mapping": {
        "id": (1, "uint64"),
        "filename": (5, "int64"),
        "has_functions": (7, "bool"),
        "has_filenames": (8, "bool"),
        "has_line_numbers": (9, "bool"),
    },
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Location": {"id": (1, "uint64"), "mapping_id": (2, "uint64"), "line": (4, "Line[]")},
    "Function": {"id": (1, "uint64"), "name": (2, "int64"), "filename": (4, "int64")},
    "Profile": {
        "sample_type": (1, "ValueType[]"),
        "sample": (2, "Sample[]"),
        "mapping": (3, "Mapping[]"),
        "location": (4, "Location[]"),
        "function": (5, "Function[]"),
        "string_table": (6, "string[]"),
        "time_nanos": (9, "int64"),
        "duration_nanos": (10, "int64"),
        "period_type": (11, "ValueType"),
        "period": (12, "int64"),
        "comment": (13, "int64[]"),
        "default_sample_type": (14, "int64"),
    },
}


def pprof(
    stacks: Iterable[StackGrowth],
    *,
    ended_at: float,
    seconds: float,
    sample_bytes: int | None,
    comments: Iterable[str],
) -> bytes:
    """Return a heap profile, compressed as pprof wants it.

    Args:
        stacks: Those that grew.
        ended_at: When it was taken, in seconds since 1970.
        seconds: How long it has taken.
        sample_bytes: Bytes to one that is drawn; None where each block was seen.
        comments: What else there is to say.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    profile = _profile_class()()
    built = _Builder(profile)
    built.describe(ended_at=ended_at, seconds=seconds, sample_bytes=sample_bytes)
    profile.comment.extend(map(built.text, comments))
    for stack in stacks:
        # It stays one block where a stack holds fewer, but larger ones.
        values = max(round(stack.blocks), 0), round(stack.bytes)
        frames = stack.frames or (Frame("", UNKNOWN, 0),)
        profile.sample.add(location_id=[built.location(frame) for frame in frames], value=values)
    # No time in it, so that what is the same in two files is so to the byte.
    return gzip.compress(profile.SerializeToString(deterministic=True), mtime=0)


class _Builder:
    """Numbers the texts, functions and places of a profile."""

    def __init__(self, profile: Any) -> None:
        self._profile = profile
        self._texts: dict[str, int] = {}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Frame, int] = {}
        self.text("")  # The first must be empty.

    def describe(self, *, ended_at: float, seconds: float, sample_bytes: int | None) -> None:
        """Say what the values are."""
        for kind, unit in (("inuse_objects", "count"), ("inuse_space", "bytes")):
            self._profile.sample_type.add(type=self.text(kind), unit=self.text(unit))
        self._profile.default_sample_type = self.text("inuse_space")
        self._profile.period_type.type = self.text("space")
        self._profile.period_type.unit = self.text("bytes")
        self._profile.period = sample_bytes or 1
        self._profile.time_nanos = round(ended_at * 1e9)
        self._profile.duration_nanos = round(abs(seconds) * 1e9)
        # One for all, which says that nothing is left to be looked up.
        self._profile.mapping.add(
            id=1,
            filename=self.text("python"),
            has_functions=True,
            has_filenames=True,
            has_line_numbers=True,
        )

    def text(self, text: str) -> int:
        """Return the number of a text."""
        number = self._texts.get(text)
        if number is None:
            number = self._texts[text] = len(self._texts)
            # Names of files may have bytes that are no text.
            self._profile.string_table.append(text.encode(errors="replace").decode())
        return number

    def location(self, frame: Frame) -> int:
        """Return the number of a line that was running."""
        number = self._locations.get(frame)
        if number is None:
            number = self._locations[frame] = len(self._locations) + 1
            function = self._function(frame)
            place = self._profile.location.add(id=number, mapping_id=1)
            place.line.add(function_id=function, line=frame.line)
        return number

    def _function(self, frame: Frame) -> int:
        key = frame.file, frame.function
        number = self._functions.get(key)
        if number is None:
            number = self._functions[key] = len(self._functions) + 1
            # A function that is not known still needs a name to be shown by. Without a name in the
            # system beside it, pprof takes it as it is: else `<locals>` would be a template of C++.
            name = self.text(frame.function or frame.file)
            self._profile.function.add(id=number, name=name, filename=self.text(frame.file))
        return number


@cache
def _profile_class() -> Any:
    """Return the class of the message, from a pool of its own.

    In the common one, another package may have described pprof's messages, too.
    """
    try:
        from google.protobuf import (  # noqa: PLC0415 -- of an extra
            descriptor_pb2,
            descriptor_pool,
            message_factory,
        )
    except ImportError as error:
        feature = "a pprof file"
        raise MissingExtraError(feature, "pprof") from error
    described = descriptor_pb2.FileDescriptorProto(
        name="profile.proto", package=_PACKAGE, syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in _MESSAGES.items():
        message = described.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            repeated = kind.endswith("[]")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added = message.field.add(name=name, number=number, label=label)
            kind = kind.removesuffix("[]")  # noqa: PLW2901 -- what it is of
            if kind in _MESSAGES:
                added.type, added.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(described.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))
