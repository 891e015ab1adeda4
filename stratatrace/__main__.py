"""``python -m stratatrace``."""

from __future__ import annotations

from stratatrace.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
