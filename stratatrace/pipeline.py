"""SDK providers of our own, for programs that have none, and how they end."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider

from stratatrace.children import end_with_children
from stratatrace.config import DEFAULT_OUTPUT
from stratatrace.errors import InvalidValueError
from stratatrace.exporters import (
    EndpointExport,
    FanOutMetricExporter,
    FileExport,
    logger_provider,
)
from stratatrace.recorder import active
from stratatrace.telemetry.log_records import is_logger_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import Meter
    from opentelemetry.metrics import MeterProvider as AnyMeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.trace import TracerProvider as AnyTracerProvider

    from stratatrace.typing import Pipeline

__all__ = [
    "OwnPipeline",
    "application_has_logger_provider",
    "application_has_meter_provider",
    "application_has_tracer_provider",
    "pipeline_for",
]

_logger = logging.getLogger("stratatrace")

# How long the end of a program may wait for an endpoint to take what is buffered.
_EXIT_SECONDS = 3.0


class _OwnTracerProvider(TracerProvider):
    """Is told from a provider of the application's own by its type."""


class _OwnMeterProvider(MeterProvider):
    """Likewise; stays the global one after its end, when it gives out meters that do nothing."""

    ended = False

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        return NoOpMeter(name) if self.ended else super().get_meter(name, *args, **kwargs)


class OwnPipeline:
    """SDK providers of our own, and the exports behind them.

    Args:
        exports: Where spans, metrics and log records go.
        service_name: Who the program is, where no environment variable says.
        pinned: Whether later calls of `configure` must leave it in place: so the program under
            ``stratatrace run`` cannot lose its numbers by configuring itself.
    """

    def __init__(
        self,
        exports: Iterable[FileExport | EndpointExport],
        *,
        service_name: str | None = None,
        pinned: bool = False,
    ) -> None:
        self.pinned = pinned
        self._service_name = service_name
        self._exports = tuple(exports)
        resource = _resource(service_name)
        # The SDK's own exit handlers wait for half a minute.
        self.tracer_provider = _OwnTracerProvider(resource=resource, shutdown_on_exit=False)
        for export in self._exports:
            self.tracer_provider.add_span_processor(export.span_processor)
        self.meter_provider = _OwnMeterProvider(
            [self._metric_reader()], resource=resource, shutdown_on_exit=False
        )
        #: None where the SDK has no log records.
        self.logger_provider = logger_provider(
            (export.log_processor for export in self._exports), resource
        )
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._start_closer()
        self._end_with_process()

    def _metric_reader(self) -> MetricReader:
        files = [export for export in self._exports if isinstance(export, FileExport)]
        only_files = len(files) == len(self._exports)
        reader = PeriodicExportingMetricReader(
            FanOutMetricExporter([export.metric_exporter for export in self._exports]),
            # A file is written when spans are: it needs no thread, and must not have one.
            export_interval_millis=math.inf if only_files else None,
        )
        if only_files:  # Else a thread collects, and no call waits for an endpoint to answer.
            for file in files:
                file.collect_metrics = reader.collect
        return reader

    def make_global(self) -> None:
        """Give the application the providers of spans and metrics, where it has none.

        OpenTelemetry lets a program set them once: where an earlier one of ours is set, the
        application's spans go on through that to the new exports.
        """
        present = trace.get_tracer_provider()
        if isinstance(present, _OwnTracerProvider):
            for export in self._exports:
                present.add_span_processor(export.span_processor)
        elif not application_has_tracer_provider():
            trace.set_tracer_provider(self.tracer_provider)
        if isinstance(metrics.get_meter_provider(), _OwnMeterProvider):
            _logger.debug("stratatrace: metrics of the application's own are no longer exported")
        elif not application_has_meter_provider():
            metrics.set_meter_provider(self.meter_provider)

    def elsewhere(self) -> Callable[[], OwnPipeline | None]:
        """Return what sets up the same pipeline in another process; it can be pickled.

        Where the application has providers of its own there, it gives None.
        """
        exports = tuple(export.elsewhere() for export in self._exports)
        return partial(_remade, exports, self._service_name, pinned=self.pinned)

    def close(self) -> None:
        """Flush and close, within a bound; a second time does nothing."""
        if self._closing.is_set():
            return
        atexit.unregister(self.close)
        for export in self._exports:
            export.end()
        self.meter_provider.ended = True
        self._closing.set()
        if self._closer is None:
            self._shut_down()
        else:
            self._closed.wait(_EXIT_SECONDS)
        lost = sum(export.lost_spans for export in self._exports)
        if lost:
            _logger.warning("stratatrace lost %d spans, which could not be delivered", lost)
        for export in self._exports:
            export.close()

    def _shut_down(self) -> None:
        # Metrics first: they read the probes, and the file must still be open.
        provider: Any  # The three kinds have only this in common.
        for provider in (self.meter_provider, self.tracer_provider, self.logger_provider):
            try:
                if provider is not None:
                    provider.shutdown()
            except Exception:
                _logger.debug("stratatrace could not shut a provider down", exc_info=True)
        self._closed.set()

    def _start_closer(self) -> None:
        """Have a thread ready where an endpoint may keep the end waiting.

        At exit the interpreter starts no threads any more, and a call to an endpoint that does not
        answer can only be left behind, never ended.
        """
        self._closer: threading.Thread | None = None
        if any(isinstance(export, EndpointExport) for export in self._exports):
            self._closer = threading.Thread(
                target=_close_when_told,
                args=(self._closing, weakref.WeakMethod(self._shut_down)),
                name="stratatrace-closer",
                daemon=True,
            )
            self._closer.start()

    def _end_with_process(self) -> None:
        atexit.register(self.close)
        end_with_children(self, OwnPipeline.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_after_fork_in_child, weakref.ref(self)))

    def _after_fork_in_child(self) -> None:
        self._closing = threading.Event()
        self._closed = threading.Event()
        for export in self._exports:
            export.after_fork_in_child()
        self._start_closer()


def _after_fork_in_child(reference: weakref.ref[OwnPipeline]) -> None:
    pipeline = reference()
    if pipeline is not None and not pipeline._closing.is_set():  # noqa: SLF001 -- its own room
        pipeline._after_fork_in_child()  # noqa: SLF001 -- likewise


def _close_when_told(
    closing: threading.Event, shut_down: weakref.WeakMethod[Callable[[], None]]
) -> None:
    closing.wait()
    method = shut_down()
    if method is not None:
        method()


def _remade(
    exports: Iterable[Callable[[], FileExport | EndpointExport]],
    service_name: str | None,
    *,
    pinned: bool,
) -> OwnPipeline | None:
    if not pinned and application_has_tracer_provider() and application_has_meter_provider():
        return None
    pipeline = OwnPipeline([make() for make in exports], service_name=service_name, pinned=pinned)
    if not pinned:
        pipeline.make_global()
    return pipeline


def pipeline_for(
    output: str | os.PathLike[str] | None,
    endpoint: str | None,
    tracer_provider: AnyTracerProvider | None,
    meter_provider: AnyMeterProvider | None,
) -> Pipeline | None:
    """Return the pipeline that `configure` asks for; None leaves telemetry to the application.

    Raises:
        InvalidValueError: A destination is given and would get nothing.
    """
    current = active.recorder.pipeline if active.started else None
    if current is not None and current.pinned:
        return current
    destined = output is not None or endpoint is not None
    has_spans = tracer_provider is not None or application_has_tracer_provider()
    has_metrics = meter_provider is not None or application_has_meter_provider()
    if has_spans and has_metrics:
        if destined:
            msg = (
                "output= and endpoint= are for programs without OpenTelemetry providers, and this "
                "one has both: drop them, its providers export"
            )
            raise InvalidValueError(msg)
        return None
    exports: list[FileExport | EndpointExport] = []
    if endpoint is not None or (output is None and _ENDPOINT_VARIABLES & os.environ.keys()):
        exports.append(EndpointExport(endpoint))
    if output is not None or not (exports or has_spans or has_metrics):
        exports.append(FileExport(Path(output or DEFAULT_OUTPUT)))
    if not exports:
        return None  # Half of the telemetry is the application's, and nobody asked for the rest.
    pipeline = OwnPipeline(exports)
    pipeline.make_global()
    return pipeline


_ENDPOINT_VARIABLES = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
}


def application_has_tracer_provider() -> bool:
    """Tell whether there is a global provider that is not one of ours."""
    return not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider | _OwnTracerProvider
    )


def application_has_meter_provider() -> bool:
    """Tell whether there is a global provider that is not one of ours."""
    provider = metrics.get_meter_provider()
    # The API has no public name for the provider that stands in until one is set.
    return not (
        isinstance(provider, _OwnMeterProvider) or type(provider).__name__ == "_ProxyMeterProvider"
    )


def application_has_logger_provider() -> bool:
    """Tell whether there is a global provider; ours never is one."""
    try:
        from opentelemetry._logs import get_logger_provider  # noqa: PLC0415 -- private still
    except ImportError:
        return False
    return is_logger_provider(get_logger_provider())


def _resource(service_name: str | None) -> Resource:
    resource = Resource.create()
    if service_name and str(resource.attributes.get(SERVICE_NAME, "")).startswith(
        "unknown_service"
    ):
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    return resource
