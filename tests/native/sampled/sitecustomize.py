"""Samples whatever counts natively, in every interpreter that has this folder on its path."""

import contextlib

with contextlib.suppress(ImportError):  # Not in other interpreters than the main one.
    import sampled  # noqa: F401 -- it does so from then on
