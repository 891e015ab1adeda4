"""The memory of tests, for pytest: budgets, leaks, a table of the worst, and a baseline.

pytest itself loads `stratatrace_pytest`, which imports this when it is wanted. Here are the names
for annotations; for the hooks see `plugin`.
"""

from __future__ import annotations

from stratatrace.pytest_plugin.fixture import MemoryBlock, MemoryFixture

__all__ = ["MemoryBlock", "MemoryFixture"]
