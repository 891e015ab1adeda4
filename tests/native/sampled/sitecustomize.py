"""Samples whatever counts natively, in every interpreter that has this folder on its path."""

import sampled  # noqa: F401 -- it does so from then on
