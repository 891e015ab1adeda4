"""What the pages show is what happens: their blocks are run, and their output is compared.

Of each page, the fenced blocks of these languages are run in a folder of its own, which has the
examples in it:

- ``python``: all of a page are one program, in their order. A block whose first line is
  ``# name.py`` is written to that file instead.
- ``output``: together they are what that program prints.
- ``console``: the lines after ``$`` are run by a shell, one after the other, when the page's files
  are there; what follows each is what it prints. Numbers and sizes may differ, words may not.

``...`` stands for any text. Blocks of other languages (``sh``, ``yaml``) are not run.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")
_COMMAND = re.compile(r"^\$ (.*)\n", re.MULTILINE)
_NUMBER = re.compile(r"-?\d[\d,.]*( ?([KMGT]i?)?B\b| ?m?s\b)?")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Page:
    """The blocks of a page that are run."""

    #: The program of its Python blocks, at the very lines where they stand in the page.
    program: str
    output: str
    #: Other files, by name.
    files: dict[str, str]
    #: Commands of a shell, and what they print.
    commands: list[tuple[str, str]]


def read_page(path: Path) -> Page:
    """Take the blocks out of a page."""
    text = path.read_text(encoding="utf-8")
    program, output, commands = [""] * text.count("\n"), "", []
    files: dict[str, str] = {}
    for fence in _FENCE.finditer(text):
        language, block = fence.groups()
        if language == "python" and (name := _FILE_NAME.match(block)):
            files[name[1]] = block
        elif language == "python":
            line = text.count("\n", 0, fence.start(2))
            program[line : line + block.count("\n")] = block.splitlines()
        elif language == "output":
            output += block
        elif language == "console":
            _, *parts = _COMMAND.split(block)
            commands += list(zip(parts[::2], parts[1::2], strict=True))
    return Page("\n".join(program).rstrip() + "\n", output, files, commands)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder that a page's blocks run in."""
    current = tmp_path / "current"
    shutil.copytree(ROOT / "examples", current / "examples")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in (("python", ""), ("stratatrace", "-m stratatrace")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        command.chmod(0o755)
    return current


def _run(command: str | list[str], folder: Path, *, strict: bool) -> tuple[int, str]:
    """Return the exit status, and all that was printed, in the order in which it was."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    ended = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={
            **environment,
            "PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error" if strict else "default",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stdout


def _assert_same(printed: str, shown: str) -> None:
    assert doctest.OutputChecker().check_output(shown, printed, _FLAGS), (
        f"it printed\n{printed}\nand the page shows\n{shown}"
    )


def _ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", PAGES, ids=_ids)
def test_python_blocks(path: Path, folder: Path) -> None:
    """The page's program ends well, and prints what the page shows."""
    page = read_page(path)
    if not page.program.strip():
        assert not page.output, "there is output, and no program"
        return
    script = folder / f"{path.stem.lower()}.md.py"
    script.write_text(page.program, encoding="utf-8")
    status, printed = _run([sys.executable, str(script)], folder, strict=True)
    assert status == 0, printed
    _assert_same(printed, page.output)


@pytest.mark.parametrize("path", PAGES, ids=_ids)
def test_console_blocks(path: Path, folder: Path) -> None:
    """The page's commands print what the page shows, numbers aside."""
    page = read_page(path)
    for name, text in page.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for command, shown in page.commands:
        status, printed = _run(command, folder, strict=False)
        assert status == 0 or shown, printed
        _assert_same(_NUMBER.sub("N", printed), _NUMBER.sub("N", shown))
