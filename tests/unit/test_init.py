"""The public names, which are there without all being imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stratatrace


def test_every_public_name_is_there() -> None:
    """By attribute, by import and by dir()."""
    assert set(stratatrace.__all__) <= set(dir(stratatrace))
    assert all(getattr(stratatrace, name) is not None for name in stratatrace.__all__)
    with pytest.raises(AttributeError, match="'stratatrace' has no attribute 'profil_memory'"):
        getattr(stratatrace, "profil_memory")  # noqa: B009 -- no type checker lets it pass


def test_who_only_measures_imports_no_more_than_that() -> None:
    """What stands beside the measuring comes when it is asked for."""
    program = (
        "import sys, stratatrace\n"
        "rooms = [f'stratatrace.{room}' for room in ('guards', 'streams', 'reuse', 'diagnose')]\n"
        "print([room for room in rooms if room in sys.modules])\n"
        "from stratatrace import memory_limit\n"
        "print([room for room in rooms if room in sys.modules])\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n['stratatrace.guards']\n"
