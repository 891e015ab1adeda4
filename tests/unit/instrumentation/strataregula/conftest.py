"""Strataregula, real where it is installed and a stand-in everywhere, and what is told of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace.config import Config
from stratatrace.instrumentation.strataregula.patches import Patches
from stratatrace.probes import native_obstacle
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

STANDIN = Path(__file__).parents[3] / "strataregula_standin"
#: All imports are under the eyes of the probe, and tracing makes them slow.
CONFIG = Config(probe="tracemalloc" if native_obstacle() else "native")
LIBRARIES = ["stand-in"]
if importlib.util.find_spec("strataregula") is not None:
    LIBRARIES.append("real")


class Library:
    """Strataregula, of which every module is imported anew in each test."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        """Return a module; ``__`` stands for a dot."""
        return importlib.import_module(f"strataregula.{name.replace('__', '.')}")

    @staticmethod
    def forget() -> None:
        """Have all of it imported anew."""
        for name in list(sys.modules):
            if name.partition(".")[0] == "strataregula":
                del sys.modules[name]


@pytest.fixture(params=LIBRARIES)
def library(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Library]:
    """Have a library that finds no plugins but those of the test."""
    if request.param == "stand-in":
        monkeypatch.syspath_prepend(str(STANDIN))
    if importlib.util.find_spec("jsonschema") is None:
        there: Any = types.ModuleType("jsonschema")
        there.validate = print
        monkeypatch.setitem(sys.modules, "jsonschema", there)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Library.forget()
    yield Library(request.param)
    Library.forget()


@pytest.fixture
def patches() -> Iterator[Patches]:
    """Have what is measured put back in the end."""
    patches = Patches()
    yield patches
    patches.undo()


class Told:
    """The spans and points that were told."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._exporter = exporter
        self._reader = reader

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def ended(self) -> list[str]:
        """Their names, indented below their parents; with ``!`` where the status is an error."""
        by_id = {span.context.span_id: span for span in self.spans if span.context}

        def depth(span: ReadableSpan) -> int:
            return 0 if span.parent is None else 1 + depth(by_id[span.parent.span_id])

        return [
            f"{'  ' * depth(span)}{span.name}{'' if span.status.is_unset else ' !'}"
            for span in self.spans
        ]

    def of(self, name: str) -> dict[str, Any]:
        """Return the attributes of our namespace of the only span of that name, in short."""
        (span,) = (span for span in self.spans if span.name == name)
        start = "stratatrace.strataregula."
        return {
            key.removeprefix(start): value
            for key, value in (span.attributes or {}).items()
            if key.startswith(start) and not key.endswith(".component")
        }

    def points(self, metric: str) -> dict[str, float]:
        """Return the values of a metric, by what tells its points apart."""
        data = self._reader.get_metrics_data()
        return {
            " ".join(str(value) for value in (point.attributes or {}).values()): point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == f"stratatrace.strataregula.{metric}"
            for point in each.data.data_points
            if hasattr(point, "value")
        }


@pytest.fixture
def told(patches: Patches) -> Iterator[Told]:
    """Measure strataregula, strictly."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    patches.apply()
    with recording(
        CONFIG,
        tracer_provider=tracers,
        meter_provider=meters,
    ):
        yield Told(exporter, reader)
    tracers.shutdown()
    meters.shutdown()
