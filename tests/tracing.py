"""What cannot be tested while something traces lines, such as coverage."""

from __future__ import annotations

import sys

import pytest

__all__ = ["untraced"]

#: It allocates between any two lines; and an exception that is thrown into a thread may land in its
#: own code, and leave its locks taken for ever.
untraced = pytest.mark.skipif(sys.gettrace() is not None, reason="something traces lines")
