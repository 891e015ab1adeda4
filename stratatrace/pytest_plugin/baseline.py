"""The baseline of a test suite: a JSON file to be committed, which people read the changes of.

It has a section for each kind of environment that it was written in, as Pythons and platforms
differ by some percent; a run is held against its own, and writes that alone.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from stratatrace.errors import InvalidValueError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Baseline", "environment_of"]

_VERSION = 1
_KEY = "heap_peak_bytes"


def environment_of(probe: str) -> str:
    """Return the name of the section for what runs here: Python, its platform and the probe."""
    python = f"{platform.python_implementation().lower()}-{sys.version_info[0]}"
    return f"{python}.{sys.version_info[1]}-{sys.platform}-{probe}"


class Baseline:
    """The heap peaks of tests, by their node ids, as a file has them.

    Args:
        path: Of the file; there need be none yet where it is to be written.
        environment: Whose section counts.
        must_exist: Whether there must be a file.

    Raises:
        InvalidValueError: There is no file, or it is no baseline.
    """

    def __init__(self, path: Path, environment: str, *, must_exist: bool) -> None:
        self.path = path
        self.environment = environment
        self._sections = _read(path) if must_exist or path.exists() else {}
        #: Of this environment.
        self.peaks: dict[str, int] = dict(self._sections.get(environment, {}))

    @property
    def environments(self) -> list[str]:
        """Those that the file has a section for."""
        return sorted(self._sections)

    def update(self, peaks: Mapping[str, int], *, root: Path) -> bool:
        """Take new peaks, drop those of files that are gone, and write; tell if anything changed.

        Tests that were not run keep theirs.

        Args:
            peaks: By node id.
            root: What node ids are relative to.

        Raises:
            OutputError: The file cannot be written.
        """
        kept = {
            test: peak
            for test, peak in self.peaks.items()
            if test in peaks or (root / test.partition("::")[0]).exists()
        }
        updated = {**kept, **peaks}
        if updated == self.peaks and self.path.exists():
            return False
        self.peaks = updated
        self._sections[self.environment] = updated
        self._write()
        return True

    def _write(self) -> None:
        sections = {
            name: {test: {_KEY: peak} for test, peak in sorted(peaks.items())}
            for name, peaks in sorted(self._sections.items())
        }
        text = json.dumps({"version": _VERSION, "environments": sections}, indent=2)
        # Each test on a line of its own, so that a change of one is a change of one line.
        lines = text.replace('": {\n        "' + _KEY, f'": {{"{_KEY}').replace("\n      }", "}")
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            beside.write_text(lines + "\n", encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            msg = f"the memory baseline {self.path} cannot be written: {error}"
            raise OutputError(msg) from error


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"there is no memory baseline {path}: --memory-baseline-update writes one"
        raise InvalidValueError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"the memory baseline {path} cannot be read: {error}"
        raise InvalidValueError(msg) from error
    try:
        return _checked(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{path} is no memory baseline of this version, which --memory-baseline-update "
            f"writes: {type(error).__name__} {error}"
        )
        raise InvalidValueError(msg) from error


def _checked(found: Any) -> dict[str, dict[str, int]]:
    if found["version"] != _VERSION:
        msg = f"version {found['version']!r}"
        raise ValueError(msg)
    return {
        str(name): {str(test): int(entry[_KEY]) for test, entry in section.items()}
        for name, section in found["environments"].items()
    }
