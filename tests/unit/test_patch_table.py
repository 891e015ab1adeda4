"""What is patched in classes of others, and put back as it was."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from stratatrace.config import Config
from stratatrace.following import Patches
from stratatrace.patching import PatchTable
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    import pytest


class Base:
    """A class as of compiled code, which others derive from."""

    def method(self) -> str:
        """Say whose it is."""
        return "base"


class Derived(Base):
    """One with nothing of its own, as uvloop's loop is since 0.23."""


def test_an_inherited_method_is_inherited_again() -> None:
    """It is patched in the class that was named only, which has none of its own after that."""
    table = PatchTable()
    table.replace(Derived, "method", lambda _self: "patched")
    assert (Derived().method(), Base().method()) == ("patched", "base")
    table.undo()
    assert "method" not in vars(Derived)
    assert Derived().method() == "base"


def test_an_own_method_is_the_same_object_again() -> None:
    """The latest patch is undone first."""
    table, original = PatchTable(), vars(Base)["method"]
    table.replace(Base, "method", lambda _self: "patched")
    table.replace(Base, "method", lambda _self: "again")
    table.undo()
    assert vars(Base)["method"] is original


def test_a_module_that_cannot_be_patched_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever patching raises, the program that imports the module does not see it."""

    def fail(_module: ModuleType, _table: PatchTable) -> None:
        raise KeyError

    monkeypatch.setitem(sys.modules, "unlike", ModuleType("unlike"))
    patches = Patches({"unlike": fail})
    with recording(Config(), strict=False):
        patches.start()
        assert active.recorder.guard.failures == 1
        patches.stop()
