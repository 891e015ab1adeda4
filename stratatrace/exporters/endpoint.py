"""Export to an OTLP endpoint."""

from __future__ import annotations

import logging
import os
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from stratatrace.errors import InvalidValueError, MissingExtraError
from stratatrace.exporters.logs import LogExporter, batching, otlp_logs
from stratatrace.guard import outside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["EndpointExport"]

_logger = logging.getLogger("stratatrace")

# By convention this port speaks gRPC, and 4318 HTTP.
_GRPC_PORT = 4317


class EndpointExport:
    """Sends spans, metrics and log records to an OTLP endpoint, from the SDK's own threads.

    Args:
        endpoint: Base URL of the endpoint; None leaves it to the OTEL_EXPORTER_OTLP_* variables.

    Raises:
        InvalidValueError: It is no URL, or the protocol is unknown.
        MissingExtraError: The exporters are not installed.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.check(endpoint)
        self._endpoint = endpoint
        self._name = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        #: Whether the program is ending.
        self.ending = False
        self._told = False
        spans, metrics, logs = _otlp_exporters(endpoint, _protocol(self._name))
        self.span_processor = _CountingProcessor(_QuietSpanExporter(spans, self))
        self.metric_exporter = _QuietMetricExporter(metrics, self)
        #: What a LoggerProvider hands its records to; None where they cannot be exported.
        self.log_processor = None if logs is None else batching(_QuietLogExporter(logs, self))

    def elsewhere(self) -> Callable[[], EndpointExport]:
        """Return what makes the same export in another process; it can be pickled."""
        return partial(EndpointExport, self._endpoint)

    @staticmethod
    def check(endpoint: str | None) -> None:
        """Raise what making one would raise, without starting anything."""
        name = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        if name and not _is_url(name):
            msg = f"an endpoint is a URL like 'http://127.0.0.1:4318', and {name!r} is not"
            raise InvalidValueError(msg)
        package = "grpc" if _protocol(name) == "grpc" else "http"
        try:
            found = find_spec(f"opentelemetry.exporter.otlp.proto.{package}")
        except ImportError:
            found = None
        if found is None:
            feature = "exporting to an OTLP endpoint"
            raise MissingExtraError(feature, "otlp")

    @property
    def lost_spans(self) -> int:
        """Spans that ended and that the endpoint has not taken."""
        return self.span_processor.ended - self.span_processor.delivered

    def failed(self, why: str) -> None:
        """Count that the endpoint did not take something, and warn of it the first time."""
        outside.count()
        if not self._told:
            self._told = True
            _logger.warning(
                "stratatrace cannot deliver to %s, the program is not affected: %s", self._name, why
            )

    def after_fork_in_child(self) -> None:
        """Count from zero; the SDK starts its threads anew by itself."""
        self.span_processor.ended = self.span_processor.delivered = 0

    def end(self) -> None:
        """Wait for nobody from now on: what fails once is given up."""
        self.ending = True

    def close(self) -> None:
        """Nothing is left open when the providers were shut down."""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # The port is no number.
        return False


def _protocol(endpoint: str) -> str:
    given = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
    if not given:
        return "grpc" if urlsplit(endpoint).port == _GRPC_PORT else "http/protobuf"
    if given not in {"grpc", "http/protobuf"}:
        msg = f"OTEL_EXPORTER_OTLP_PROTOCOL={given!r}: expected 'grpc' or 'http/protobuf'"
        raise InvalidValueError(msg)
    return given


def _otlp_exporters(
    endpoint: str | None, protocol: str
) -> tuple[SpanExporter, MetricExporter, Any]:
    package = "grpc" if protocol == "grpc" else "http"
    spans, metrics = (
        import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}")
        for module in ("trace_exporter", "metric_exporter")
    )
    if protocol == "grpc" or endpoint is None:
        urls = [endpoint] * 3
    else:
        base = endpoint.rstrip("/")
        urls = [f"{base}/v1/{signal}" for signal in ("traces", "metrics", "logs")]
    return (
        spans.OTLPSpanExporter(endpoint=urls[0]),
        metrics.OTLPMetricExporter(endpoint=urls[1]),
        otlp_logs(package, urls[2]),
    )


class _CountingProcessor(BatchSpanProcessor):
    """A batch processor that knows how many spans were given to it, and how many arrived."""

    def __init__(self, exporter: _QuietSpanExporter) -> None:
        super().__init__(exporter)
        self.ended = 0
        self.delivered = 0
        exporter.processor = self

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.ended += 1
        super().on_end(span)


class _Attempt:
    """One attempt to deliver, during which the SDK's exporter logs to us instead.

    It logs every retry, at warning level, for as long as the endpoint is down; we tell of it once.
    """

    def __init__(self, export: EndpointExport, exporter: Any) -> None:
        self._export = export
        self._exporter = exporter
        self._token: Token[_Attempt | None] | None = None

    def __enter__(self) -> None:
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("opentelemetry.exporter.otlp"):
                logging.getLogger(name).addFilter(_redirect)  # Adding it twice is adding it once.
        self._token = _attempt.set(self)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if self._token is not None:
            _attempt.reset(self._token)
        if isinstance(error, Exception):
            self._export.failed(repr(error))
            return True
        return False

    def logged(self, message: str) -> None:
        """Take what the exporter says of a failure, before it waits to try again."""
        self._export.failed(message)
        if self._export.ending:
            self._exporter.shutdown()  # Ends the wait.


_attempt: ContextVar[_Attempt | None] = ContextVar("stratatrace_attempt", default=None)


def _redirect(record: logging.LogRecord) -> bool:
    attempt = _attempt.get()
    if attempt is None:
        return True  # An exporter of the application's own.
    if record.levelno >= logging.WARNING:
        attempt.logged(record.getMessage())
    return False


class _QuietSpanExporter(SpanExporter):
    processor: _CountingProcessor

    def __init__(self, exporter: SpanExporter, export: EndpointExport) -> None:
        self._exporter = exporter
        self._export = export
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        if self._export.ending and self._failing:
            return result
        with _Attempt(self._export, self._exporter):
            result = self._exporter.export(spans)
        self._failing = result is not SpanExportResult.SUCCESS
        if not self._failing:
            self.processor.delivered += len(spans)
        return result

    def shutdown(self) -> None:
        with _Attempt(self._export, self._exporter):
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _QuietMetricExporter(MetricExporter):
    def __init__(self, exporter: MetricExporter, export: EndpointExport) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,  # noqa: SLF001 -- as the SDK does
            preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001
        )
        self._exporter = exporter
        self._export = export
        self._failing = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = MetricExportResult.FAILURE
        if self._export.ending and self._failing:
            return result
        with _Attempt(self._export, self._exporter):
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        self._failing = result is not MetricExportResult.SUCCESS
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        with _Attempt(self._export, self._exporter):
            self._exporter.shutdown(timeout_millis, **kwargs)


class _QuietLogExporter(LogExporter):
    def __init__(self, exporter: Any, export: EndpointExport) -> None:
        super().__init__(exporter)
        self._export = export
        self._failing = False

    def export(self, batch: Any) -> Any:
        if self._export.ending and self._failing:
            return None
        result = None
        with _Attempt(self._export, self._exporter):
            result = super().export(batch)
        self._failing = getattr(result, "name", "") != "SUCCESS"
        return result

    def shutdown(self) -> None:
        with _Attempt(self._export, self._exporter):
            super().shutdown()
