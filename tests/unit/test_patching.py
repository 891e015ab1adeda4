"""Functions that are found by pattern are measured until that is taken back."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace.patching import PatchTable, Pattern, profile_by_pattern
from stratatrace.wrapping import is_measured, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from stratatrace.testing import ListSink

MODULE = """
    def load(): return 1
    class Job:
        def run(self): return 2
        @staticmethod
        def make(): return 3
        @classmethod
        def of(cls): return 4
"""


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ModuleType]]:
    """Return what imports a module that nobody has imported before."""
    (tmp_path / "patched_here.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: importlib.import_module("patched_here")
    sys.modules.pop("patched_here", None)


@pytest.fixture(scope="module", autouse=True)
def import_hooks_are_there() -> None:
    """Have the finder of import hooks in its place, where it stays."""
    when_imported("stratatrace", lambda _module: None)


def members(module: ModuleType) -> list[object]:
    """Return what may be replaced, as it is kept."""
    return [module.load, *(vars(module.Job)[name] for name in ("run", "make", "of"))]


@pytest.mark.parametrize("first", ["import", "patterns"])
@pytest.mark.parametrize("patterns", [["patched_here:*"], ["patched_*:load", "patched_here:Job"]])
def test_undone_the_very_objects_are_back(
    first: str, patterns: list[str], imported: Callable[[], ModuleType], sink: ListSink
) -> None:
    """Of functions, methods and descriptors, in modules that are there or come; and only once."""
    before = None
    if first == "import":
        before = members(imported())
    table = profile_by_pattern(map(Pattern, patterns))
    module = imported()
    assert all(map(is_measured, members(module)))
    assert (module.load(), module.Job().run(), module.Job.make(), module.Job.of()) == (1, 2, 3, 4)
    assert [m.callsite.name for m in sink.measurements] == ["load", "Job.run", "Job.make", "Job.of"]

    table.undo()
    table.undo()
    assert not any(map(is_measured, members(module)))
    if before is not None:
        assert all(now is then for now, then in zip(members(module), before, strict=True))
    assert (module.load(), module.Job().run(), module.Job.make(), module.Job.of()) == (1, 2, 3, 4)
    assert len(sink.measurements) == 4


@pytest.mark.parametrize("pattern", ["patched_here:load", "patched_*:load"])
def test_what_is_imported_after_it_was_undone_is_left_alone(
    pattern: str, imported: Callable[[], ModuleType]
) -> None:
    """The hook on the import is still there, and does nothing."""
    finders = list(sys.meta_path)
    table = profile_by_pattern([Pattern(pattern)])
    table.undo()
    assert sys.meta_path == finders
    assert not is_measured(imported().load)


def test_it_can_be_done_again(imported: Callable[[], ModuleType]) -> None:
    """With other patterns, of a module that is there by now."""
    load = imported().load
    for _ in range(2):
        table = profile_by_pattern([Pattern("patched_here:load")])
        assert is_measured(imported().load)
        table.undo()
        assert imported().load is load


def test_what_somebody_else_has_put_on_top_stays(
    imported: Callable[[], ModuleType], sink: ListSink, caplog: pytest.LogCaptureFixture
) -> None:
    """It calls ours, and would be lost with it; the log says so to who asks it."""
    caplog.set_level("INFO", "stratatrace")
    module: Any = imported()
    table = PatchTable()
    profile_by_pattern([Pattern("patched_here:*")], table=table)
    ours = module.load
    module.load = theirs = lambda: ours() + 1
    table.undo()
    assert module.load is theirs
    assert theirs() == 2
    assert [m.callsite.name for m in sink.measurements] == ["load"]
    assert "replaced by somebody else" in caplog.text
    assert not is_measured(vars(module.Job)["run"])


SCRIPT = """
    import sys
    from stratatrace.patching import Pattern, profile_by_pattern
    from stratatrace.wrapping import is_measured
    def earlier(): pass
    bare = earlier
    table = profile_by_pattern([Pattern("{pattern}")], script="program")
    def later(): pass
    class Job:
        def run(self): pass
    measured = list(map(is_measured, (earlier, later, Job.run)))
    print(measured, sys.gettrace())
    table.undo()
    print(earlier is bare, any(map(is_measured, (earlier, later, Job.run))))
"""


def run_script(program: str, folder: Path) -> str:
    """Return what a program prints that says nothing else."""
    (folder / "program.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "-W", "error", "program.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


@untraced
@pytest.mark.parametrize("pattern", ["__main__:*", "program:*"])
def test_a_script_that_has_begun_is_measured_from_where_it_is(pattern: str, tmp_path: Path) -> None:
    """What it has defined, and what it is about to; no line is traced after the last of it."""
    printed = run_script(SCRIPT.format(pattern=pattern), tmp_path)
    assert printed == "[True, True, True] None\nTrue False\n"


@untraced
def test_a_script_is_not_watched_after_it_was_undone(tmp_path: Path) -> None:
    """Not even by a trace function that finds nothing."""
    program = """
        import sys
        from stratatrace.patching import Pattern, profile_by_pattern
        from stratatrace.wrapping import is_measured
        table = profile_by_pattern([Pattern("__main__:*")])
        traced = sys.gettrace()
        table.undo()
        def later(): pass
        print(traced is not None, sys.gettrace(), is_measured(later))
    """
    assert run_script(program, tmp_path) == "True None False\n"


def test_a_debuggers_trace_function_is_left_in_its_place(tmp_path: Path) -> None:
    """Only what a script has defined so far is measured beside one."""
    program = """
        import sys
        from stratatrace.patching import Pattern, profile_by_pattern
        from stratatrace.wrapping import is_measured
        def theirs(*_): return None
        sys.settrace(theirs)
        def earlier(): pass
        table = profile_by_pattern([Pattern("__main__:*er")])
        def later(): pass
        print(sys.gettrace() is theirs, is_measured(earlier), is_measured(later))
    """
    assert run_script(program, tmp_path) == "True True False\n"


@untraced
def test_a_script_is_found_from_another_thread(tmp_path: Path) -> None:
    """What it has defined so far is measured; its thread is not traced from there."""
    program = """
        import sys, threading
        from stratatrace.patching import Pattern, profile_by_pattern
        from stratatrace.wrapping import is_measured
        def earlier(): pass
        traced = []
        def begin():
            profile_by_pattern([Pattern("__main__:earlier")])
            traced.append(sys.gettrace())
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        print(is_measured(earlier), traced)
    """
    assert run_script(program, tmp_path) == "True [None]\n"
