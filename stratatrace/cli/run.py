"""``stratatrace run``: start any program with measurement on.

The program is run by the interpreter itself, not by us: this process becomes ``python script.py``,
and what measures is started inside by a ``sitecustomize`` module before the program begins. So its
exit status, stdout, argv, ``__main__`` and tracebacks are those that it has without us.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stratatrace.cli.program import ProgramOptions
from stratatrace.config import DEFAULT_OUTPUT, Config
from stratatrace.errors import CommandError, MissingExtraError, OutputError
from stratatrace.patching import Pattern
from stratatrace.probes import HEAP_PROBES, native_obstacle

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["add_to"]

_STARTUP = Path(__file__).with_name("startup")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="run a program with measurement on",
        usage="stratatrace run [options] (script.py | -m module) [args ...]",
        description="Run a program unchanged, measure its decorated functions and those named by "
        "--profile, and show a table when it ends.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--profile",
        metavar="PATTERN",
        action="append",
        default=[],
        help="also measure package.module:function or module:Class.method; * stands for any text, "
        "__main__ for the script itself; may be given again",
    )
    parser.add_argument(
        "--probe",
        help="how the heap is measured: "
        + "; ".join(f"{name}: {meaning}" for name, meaning in HEAP_PROBES.items())
        + " (default: native where it can be had, else tracemalloc)",
    )
    parser.add_argument(
        "--sample-ratio",
        type=float,
        metavar="RATIO",
        help="share of the calls whose heap is traced, 0 to 1",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"write spans and metrics to FILE as OTLP JSON lines (default: {DEFAULT_OUTPUT}, "
        "unless an endpoint is given); an existing file is replaced",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="export by OTLP to URL: gRPC on port 4317, HTTP elsewhere (default: "
        "OTEL_EXPORTER_OTLP_ENDPOINT, if set)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no table at the end")
    parser.add_argument(
        "-m",
        dest="module",
        nargs=argparse.REMAINDER,
        metavar="module [args ...]",
        help="run a module, like python -m",
    )
    parser.add_argument("script", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(command=_run)


def _run(options: Namespace) -> int:
    words = _program(options)
    program = ProgramOptions(
        name=Path(words[0] if words[0] != "-m" else words[1]).stem,
        profile=tuple(options.profile),
        probe=options.probe or os.environ.get("OTEL_PYTHON_STRATATRACE_PROBE") or _default_probe(),
        sample_ratio=options.sample_ratio,
        output=_output(options),
        temporary=options.output is None and _endpoint_given(options),
        endpoint=options.endpoint,
        quiet=options.quiet,
    )
    # All that can be wrong is found here, where it is one line and not a traceback.
    for pattern in program.profile:
        Pattern(pattern)
    Config.from_environment(probe=program.probe, sample_ratio=program.sample_ratio)
    _check_extras(options)
    _check_interpreter()
    _make_empty(program.output)
    command = [sys.executable, *_interpreter_flags(), *words]
    environment = program.to_environment(os.environ, startup=str(_STARTUP))
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":  # Its exec returns to the shell at once.
        return subprocess.call(command, env=environment)  # noqa: S603 -- the user's own program
    return os.execve(sys.executable, command, environment)  # noqa: S606 -- likewise


def _program(options: Namespace) -> list[str]:
    if options.module is not None:
        if not options.module:
            msg = "-m needs the name of a module"
            raise CommandError(msg)
        return ["-m", *options.module]
    if not options.script:
        msg = "nothing to run: give a script, or -m and a module"
        raise CommandError(msg)
    script = options.script[0]
    if script == "-":  # The program comes by stdin.
        return list(options.script)
    if script.startswith("-"):
        msg = f"there is no option {script}: see stratatrace run --help"
        raise CommandError(msg)
    if not Path(script).exists():
        msg = f"there is no script {script!r}"
        raise CommandError(msg)
    return list(options.script)


def _endpoint_given(options: Namespace) -> bool:
    return bool(options.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def _output(options: Namespace) -> Path:
    if options.output is not None:
        return Path(options.output).absolute()
    if _endpoint_given(options):
        import tempfile  # noqa: PLC0415 -- only here, and this process is to be light

        descriptor, name = tempfile.mkstemp(prefix="stratatrace-", suffix=".jsonl")
        os.close(descriptor)
        return Path(name)
    return Path(DEFAULT_OUTPUT).absolute()


def _make_empty(output: Path) -> None:
    try:
        output.write_bytes(b"")
    except OSError as error:
        msg = f"telemetry cannot be written to {str(output)!r}: {error.strerror}"
        raise OutputError(msg) from error


def _check_extras(options: Namespace) -> None:
    if not _installed("opentelemetry.exporter.otlp.proto.common") or not _installed("rich"):
        feature = "stratatrace run"
        raise MissingExtraError(feature, "cli")
    if _endpoint_given(options):
        from stratatrace.exporters import EndpointExport  # noqa: PLC0415 -- starts no exporter

        EndpointExport.check(options.endpoint)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _default_probe() -> str:
    """Return the best that measures every call: a run is to show them all."""
    return "native" if native_obstacle() is None else "tracemalloc"


def _check_interpreter() -> None:
    if sys.flags.ignore_environment or sys.flags.no_site or sys.flags.isolated:
        msg = "python's options -E, -I and -S keep measurement from starting: run without them"
        raise CommandError(msg)


def _interpreter_flags() -> list[str]:
    """Return the options that this interpreter itself was started with."""
    words = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return words[:-2] if words[-2:-1] == ["-m"] else words[:-1]
