"""Imports by name what is patched where it is defined."""

from __future__ import annotations

from .loader import resolve_provider

__all__ = ["resolve_provider"]
