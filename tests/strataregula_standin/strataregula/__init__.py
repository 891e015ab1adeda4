"""A stand-in for strataregula, of our own making: its names, its order of calls, and its hazards.

It has what the instrumentation touches and no more, so that every patch is tested where the real
one is not installed. What it compiles is small and plain. Where both are there, the same tests run
on both, which keeps this true.
"""

from __future__ import annotations

from .core.config_compiler import ConfigCompiler
from .core.pattern_expander import EnhancedPatternExpander
from .kernel import Kernel
from .passes import InternPass

__all__ = ["ConfigCompiler", "EnhancedPatternExpander", "InternPass", "Kernel"]
