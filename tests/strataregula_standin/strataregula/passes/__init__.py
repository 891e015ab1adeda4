"""Passes of the kernel."""

from __future__ import annotations

from .intern import InternPass

__all__ = ["InternPass"]
