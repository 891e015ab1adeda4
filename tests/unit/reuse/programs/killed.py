"""Has a store with entries on disk, and is ended by a signal that nothing can handle."""

from __future__ import annotations

import os
import signal
import sys

from stratatrace import CompressedStore

store = CompressedStore[int, bytes](codec="bytes", max_bytes=1, spill=sys.argv[1])
store[1] = os.urandom(5_000)
os.kill(os.getpid(), signal.SIGKILL)
