"""Hooks, which cannot be triggered: so loading a plugin always ends as a failure."""

from __future__ import annotations


class HookManager:
    """Has no ``trigger``."""
