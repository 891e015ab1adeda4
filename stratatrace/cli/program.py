"""Inside the program that ``stratatrace run`` runs: start measuring, and tell of it at the end."""

from __future__ import annotations

import atexit
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.exporters import EndpointExport, FileExport
    from stratatrace.patching import Pattern

__all__ = ["ProgramOptions", "start"]

_VARIABLE = "STRATATRACE_RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOptions:
    """What the command line said, for the process that the program runs in."""

    #: Name of the script without its ending, or of the module.
    name: str
    profile: tuple[str, ...]
    probe: str
    sample_ratio: float | None
    #: The OTLP file; the table is made from it.
    output: Path
    #: Whether the file is only for the table, and goes when that was shown.
    temporary: bool
    endpoint: str | None
    quiet: bool

    def to_environment(self, environment: Mapping[str, str], *, startup: str) -> dict[str, str]:
        """Return *environment* such that an interpreter started with it begins with `start`."""
        python_path = environment.get("PYTHONPATH")
        options = {**asdict(self), "output": str(self.output), "python_path": python_path}
        return {
            **environment,
            _VARIABLE: json.dumps(options),
            "PYTHONPATH": startup
            if python_path is None
            else os.pathsep.join((startup, python_path)),
        }


def start(text: str) -> None:
    """Start measuring.

    Args:
        text: The variable that `ProgramOptions.to_environment` has set.
    """
    values: dict[str, Any] = json.loads(text)
    python_path = values.pop("python_path")
    if python_path is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = python_path
    values.update(output=Path(values["output"]), profile=tuple(values["profile"]))
    _Program(ProgramOptions(**values)).start()


class _Program:
    def __init__(self, options: ProgramOptions) -> None:
        self._options = options
        self._process_id = os.getpid()
        self._patterns: list[Pattern] = []

    def start(self) -> None:
        from stratatrace.config import Config  # noqa: PLC0415
        from stratatrace.exporters import EndpointExport, FileExport  # noqa: PLC0415
        from stratatrace.patching import Pattern, profile_by_pattern  # noqa: PLC0415
        from stratatrace.pipeline import OwnPipeline  # noqa: PLC0415 -- the launcher needs it not
        from stratatrace.recorder import Recorder, active  # noqa: PLC0415

        options = self._options
        atexit.register(self._end)  # The first to be registered is the last to run.
        exports: list[FileExport | EndpointExport] = [FileExport(options.output)]
        if options.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            exports.append(EndpointExport(options.endpoint))
        # Not global: the program may yet set providers of its own, and would be refused.
        pipeline = OwnPipeline(exports, service_name=options.name, pinned=True)
        config = Config.from_environment(probe=options.probe, sample_ratio=options.sample_ratio)
        active.install(
            Recorder(
                config,
                tracer_provider=pipeline.tracer_provider,
                meter_provider=pipeline.meter_provider,
                logger_provider=pipeline.logger_provider,
                pipeline=pipeline,
            )
        )
        self._patterns = [Pattern(text) for text in options.profile]
        profile_by_pattern(self._patterns, script=options.name)

    def _end(self) -> None:
        """Show what was measured; telemetry was flushed just before."""
        if os.getpid() != self._process_id:
            return  # A forked child: its parent shows the numbers of both.
        options = self._options
        try:
            for pattern in self._patterns:
                if complaint := pattern.complaint():
                    print(f"stratatrace: --profile {complaint}", file=sys.stderr)
            if not options.quiet:
                self._show_table()
        except Exception as error:
            print(f"stratatrace: the table cannot be shown: {error}", file=sys.stderr)
        finally:
            if options.temporary:
                options.output.unlink(missing_ok=True)

    def _show_table(self) -> None:
        from stratatrace.reports.summary import read_summary  # noqa: PLC0415 -- when it is needed
        from stratatrace.reports.table import print_table  # noqa: PLC0415

        output = self._options.output
        print_table(read_summary(output), file=sys.stderr)
        if not self._options.temporary:
            shown = os.path.relpath(output) if output.is_relative_to(Path.cwd()) else output
            print(f"Spans and metrics are in {shown}", file=sys.stderr)
