"""Strataregula in tests of its optimizers: what stands for it, and the real one if it is here.

What a compile does is told as its outcome: what it returned, wrote, logged, reported and raised.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula import optimizers
from stratatrace.patching import PatchTable
from stratatrace.wrapping import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

STAND_IN = Path(__file__).parent / "strataregula_compiling"
#: Which there are.
LIBRARIES = [
    "stand-in",
    *(["real"] if importlib.util.find_spec("strataregula") is not None else []),
]
CORE = "strataregula.core.config_compiler"

# Has the finder of import hooks be there before the first test, which must leave all as it was.
when_imported(__name__, lambda _module: None)


def _forget() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "strataregula"]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def library(which: str) -> Iterator[None]:
    """Have that library imported anew within the block, and the one before it after that."""
    before = _forget()
    if which == "stand-in":
        sys.path.insert(0, str(STAND_IN))
    try:
        yield
    finally:
        if which == "stand-in":
            sys.path.remove(str(STAND_IN))
        _forget()
        sys.modules.update(before)


@contextmanager
def switched_on(*names: str) -> Iterator[PatchTable]:
    """Have optimizers in place within the block."""
    table = PatchTable()
    optimizers.apply(optimizers.parse_names(names), table)
    try:
        yield table
    finally:
        table.undo()


def core() -> Any:
    """Return the module of the compiler; in the real one it is always the same time."""
    module: Any = importlib.import_module(CORE)
    if hasattr(module, "datetime"):
        module.time = SimpleNamespace(time=lambda: 1000.0)
        now = SimpleNamespace(isoformat=lambda: "2025-01-01T00:00:00+00:00")
        module.datetime = SimpleNamespace(now=lambda _zone=None: now)
    return module


@dataclass
class Outcome:
    """What came of a call."""

    returned: Any = None
    written: bytes | None = None
    raised: tuple[type, str, list[str]] | None = None
    logged: tuple[tuple[str, str], ...] = ()
    reported: tuple[tuple[int, int], ...] = ()


def outcome_of(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Outcome:
    """Return what came of a call that writes nothing."""
    outcome = Outcome()
    try:
        outcome.returned = call(*arguments, **keywords)
    except Exception as error:
        # Places in a document are objects that are equal to none but themselves.
        outcome.raised = (type(error), str(error), [str(each) for each in error.args])
    return outcome


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append((record.levelname, record.getMessage()))


@contextmanager
def _listening(level: int) -> Iterator[list[tuple[str, str]]]:
    handler, logger = _Messages(), logging.getLogger("strataregula")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class Compiling:
    """A folder with inputs, and the outcomes of compiling them.

    Args:
        folder: An empty one.
        files: The texts of its files, by name.
    """

    def __init__(self, folder: Path, files: dict[str, str | bytes]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
            (folder / name).write_bytes(data)

    def outcomes(
        self,
        how: str = "traffic",
        form: str = "python",
        *,
        level: int = logging.INFO,
        plugins: Callable[[str, Any], dict[Any, Any]] | None = None,
    ) -> list[Outcome]:
        """Compile twice by one compiler, as the second time it remembers.

        Args:
            how: ``traffic`` or ``large``.
            form: The format of the output.
            level: Of the messages that are wanted.
            plugins: Expands a pattern with a value, in place of plugins.
        """
        module = core()
        compiler = module.ConfigCompiler(module.CompilationConfig(output_format=form), None)
        if plugins is not None:
            manager = SimpleNamespace(
                hooks=(), expand_pattern=lambda name, context: plugins(name, context["value"])
            )
            compiler.plugin_manager = compiler.expander.plugin_manager = manager
        return [self._outcome(compiler, how, level) for _ in range(2)]

    def _outcome(self, compiler: Any, how: str, level: int) -> Outcome:
        (traffic,) = self.folder.glob("traffic.*")
        output = self.folder / "output"
        output.write_bytes(b"before")
        reported: list[tuple[int, int]] = []
        with _listening(level) as messages:
            if how == "large":
                outcome = outcome_of(
                    compiler.compile_large_config,
                    *(traffic, output, lambda *counts: reported.append(counts)),
                )
            else:
                regional = self.folder / "prefectures.yaml"
                given = regional if regional.exists() else None
                outcome = outcome_of(compiler.compile_traffic_config, traffic, given, output)
        outcome.written = output.read_bytes()
        outcome.logged, outcome.reported = tuple(messages), tuple(reported)
        return outcome
