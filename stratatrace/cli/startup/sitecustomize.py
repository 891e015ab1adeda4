# ruff: noqa: INP001 -- not a package: its folder is put on the path of the program that is run
"""Start measurement in a program that ``stratatrace run`` runs, before the program begins.

Any interpreter that finds this on its path runs it, so it must do nothing where it is not meant.
"""

import importlib
import importlib.util
import os
import sys


def _start() -> None:
    # No pathlib: an interpreter that this is not meant for should lose no time here.
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]  # noqa: PTH100
    text = os.environ.pop("STRATATRACE_RUN", None)
    if text is not None:
        # Where stratatrace was run from a checkout, the program's path may not lead to it.
        astray = importlib.util.find_spec("stratatrace") is None
        if astray:
            sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(folder))))  # noqa: PTH120
        from stratatrace.cli.program import start  # noqa: PLC0415 -- likewise

        if astray:
            sys.path.pop()
        start(text)
    # The program's environment may have a module of this name too: it is next in line.
    this = sys.modules.pop("sitecustomize")
    if importlib.util.find_spec("sitecustomize") is not None:
        importlib.import_module("sitecustomize")
    else:
        sys.modules["sitecustomize"] = this  # The import system wants to find what it imported.


_start()
