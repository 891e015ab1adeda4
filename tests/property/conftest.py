"""Has no test leave a thread that watches memory pressure."""

from __future__ import annotations

from pressure_watching import nobody_watches_afterwards

__all__ = ["nobody_watches_afterwards"]
