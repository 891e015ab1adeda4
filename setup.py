"""The compiled heap probe, which is optional: without it the package is pure Python."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup


def extensions() -> list[Extension]:
    """Return what to compile here: nothing, where it was declined or could not work."""
    if (
        os.environ.get("STRATATRACE_NO_EXTENSION") == "1"
        or sys.implementation.name != "cpython"
        or sysconfig.get_config_var("Py_GIL_DISABLED")
        or sys.maxsize < 2**32
    ):
        return []
    flags = ["/O2"] if os.name == "nt" else ["-O2", "-fvisibility=hidden"]
    return [
        Extension(
            "stratatrace.probes._counters",
            ["stratatrace/probes/_counters.c"],
            depends=sorted(str(path) for path in Path("stratatrace/probes").glob("_*.h")),
            extra_compile_args=flags,
            libraries=[] if os.name == "nt" else ["m"],
            optional=True,
        )
    ]


setup(ext_modules=extensions())
