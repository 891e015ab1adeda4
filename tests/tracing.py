"""What is not tested while something traces lines, such as coverage."""

from __future__ import annotations

import pytest

__all__ = ["untraced"]

#: It allocates between any two lines; an exception that is thrown into a thread may land in its own
#: code, and leave its locks taken for ever; and a simulation takes ten times as long.
untraced = pytest.mark.untraced
