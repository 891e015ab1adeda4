"""Data that does not fit: files searched in windows, streams taken in chunks that fit."""

from __future__ import annotations

from stratatrace.streams.mapped import MappedFile, Match
from stratatrace.streams.scanning import Found, scan

__all__ = ["Found", "MappedFile", "Match", "scan"]
