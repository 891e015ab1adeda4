"""Counts natively in every interpreter that has this folder on its path."""

from stratatrace.probes import _counters

_counters.start()
