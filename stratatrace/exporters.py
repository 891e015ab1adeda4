"""Where spans and metrics go when nobody has said so: an OTLP file, or an OTLP endpoint.

Both are made of the SDK's own parts. What is added here: a file needs no server and no thread; an
endpoint that cannot be reached is told of once, and costs the program nothing but the loss.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from base64 import b64decode
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from stratatrace.errors import InvalidValueError, MissingExtraError, OutputError
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from pathlib import Path

    from google.protobuf.message import Message
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["EndpointExport", "FileExport"]

_logger = logging.getLogger("stratatrace")

# A pause to write so many spans is a few milliseconds, and a killed program loses no more.
_SPANS_A_WRITE = 200
_SECONDS_BETWEEN_WRITES = 1.0
_SECONDS_BETWEEN_METRICS = 5.0

# By convention this port speaks gRPC, and 4318 HTTP.
_GRPC_PORT = 4317

_BASE64_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


class FileExport(SpanProcessor):
    """Writes spans and metrics as OTLP JSON lines, in the thread that ends the spans.

    There is no thread, because a thread's own memory would be in every number that counts for the
    whole process. Several processes may write one file: each line is one append.

    Args:
        path: The file; it is created, and appended to.

    Raises:
        OutputError: The file cannot be written.
        MissingExtraError: The encoder is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 -- an extra
            from opentelemetry.exporter.otlp.proto.common import (  # noqa: PLC0415 -- an extra
                metrics_encoder,
                trace_encoder,
            )
        except ImportError as error:
            feature = "writing telemetry to a file"
            raise MissingExtraError(feature, "cli") from error
        self._to_dict = MessageToDict
        self._encode_spans = trace_encoder.encode_spans
        self._encode_metrics = metrics_encoder.encode_metrics
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            msg = f"telemetry cannot be written to {str(path)!r}: {error.strerror}"
            raise OutputError(msg) from error
        self.lost_spans = 0
        self._pending: list[ReadableSpan] = []
        # Reentrant: a collection while spans are encoded may end a span in a finalizer.
        self._lock = threading.RLock()
        self._written_at = self._metrics_at = time.monotonic()
        self._reader = PeriodicExportingMetricReader(
            _FileMetricExporter(self), export_interval_millis=math.inf
        )

    @property
    def span_processor(self) -> SpanProcessor:
        """What a TracerProvider hands its spans to."""
        return self

    @property
    def metric_reader(self) -> MetricReader:
        """What collects from a MeterProvider."""
        return self._reader

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; write when there are enough of them."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            self._pending.append(span)
            waited = time.monotonic() - self._written_at
            if len(self._pending) < _SPANS_A_WRITE and waited < _SECONDS_BETWEEN_WRITES:
                return
            self._write_pending()
        if time.monotonic() - self._metrics_at > _SECONDS_BETWEEN_METRICS:
            self._metrics_at = time.monotonic()
            with active.recorder.own_work():
                self._reader.collect()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 -- the SDK's
        """Write the spans that are waiting."""
        with self._lock:
            self._write_pending()
        return True

    def shutdown(self) -> None:
        """Write the spans that are waiting, the last."""
        self.force_flush()

    def end(self) -> None:
        """Write the metrics, before the providers are shut down."""
        self._reader.collect()

    def close(self) -> None:
        """Close the file, after they were."""
        self._file.close()

    def after_fork_in_child(self) -> None:
        """Drop the parent's spans: it writes them itself."""
        self._lock = threading.RLock()
        self._pending.clear()

    def write_metrics(self, data: MetricsData) -> bool:
        """Append one line of metrics; return whether it was written."""
        # An empty list of spans makes the line acceptable where a reader of traces wants every
        # line to have one (Jaeger's upload), and is nothing to all others.
        line = {"resourceSpans": [], **self._converted(self._encode_metrics(data))}
        return self._append(line)

    def _write_pending(self) -> None:
        self._written_at = time.monotonic()
        if not self._pending:
            return
        with active.recorder.own_work():
            spans, self._pending = self._pending, []
            if not self._append(self._converted(self._encode_spans(spans))):
                self.lost_spans += len(spans)

    def _converted(self, request: Message) -> dict[str, Any]:
        converted: dict[str, Any] = self._to_dict(request, use_integers_for_enums=True)
        for group in ("resourceSpans", "resourceMetrics"):
            for part in converted.get(group, ()):
                _set_process_id(part)
        _ids_to_hex(converted)
        return converted

    def _append(self, line: dict[str, Any]) -> bool:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        try:
            self._file.write(text.encode())
        except (OSError, ValueError) as error:  # ValueError: the file was closed.
            if not self.lost_spans:
                _logger.warning("stratatrace cannot write to %s: %s", self.path, error)
            return False
        return True


class _FileMetricExporter(MetricExporter):
    def __init__(self, file: FileExport) -> None:
        super().__init__()
        self._file = file

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 -- the SDK's
        **_kwargs: Any,
    ) -> MetricExportResult:
        written = self._file.write_metrics(metrics_data)
        return MetricExportResult.SUCCESS if written else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002 -- the SDK's
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:
        pass


def _set_process_id(part: dict[str, Any]) -> None:
    """Say which process this is: a forked child has its parent's resource."""
    attributes = part.setdefault("resource", {}).setdefault("attributes", [])
    attributes[:] = [a for a in attributes if a.get("key") != "process.pid"]
    attributes.append({"key": "process.pid", "value": {"intValue": str(os.getpid())}})


def _ids_to_hex(node: Any) -> None:
    """Rewrite the ids in place: OTLP's JSON has them in hex, protobuf's in base64."""
    if isinstance(node, list):
        for item in node:
            _ids_to_hex(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in _BASE64_IDS:
                node[key] = b64decode(value).hex()
            elif isinstance(value, dict | list):
                _ids_to_hex(value)


class EndpointExport:
    """Sends spans and metrics to an OTLP endpoint, from the SDK's own threads.

    Args:
        endpoint: Base URL of the endpoint; None leaves it to the OTEL_EXPORTER_OTLP_* variables.

    Raises:
        InvalidValueError: It is no URL, or the protocol is unknown.
        MissingExtraError: The exporters are not installed.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.check(endpoint)
        self._name = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        #: Whether the latest attempt failed, and whether the program is ending.
        self.failing = False
        self.ending = False
        self._told = False
        spans, metrics = _otlp_exporters(endpoint, _protocol(self._name))
        self.span_processor = _CountingProcessor(_QuietSpanExporter(spans, self))
        self.metric_reader = PeriodicExportingMetricReader(_QuietMetricExporter(metrics, self))

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
        """Take note that the endpoint did not take something; warn of it the first time only."""
        self.failing = True
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


def _otlp_exporters(endpoint: str | None, protocol: str) -> tuple[SpanExporter, MetricExporter]:
    package = "grpc" if protocol == "grpc" else "http"
    spans, metrics = (
        import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}")
        for module in ("trace_exporter", "metric_exporter")
    )
    if protocol == "grpc" or endpoint is None:
        urls = (endpoint, endpoint)
    else:
        base = endpoint.rstrip("/")
        urls = (f"{base}/v1/traces", f"{base}/v1/metrics")
    return spans.OTLPSpanExporter(endpoint=urls[0]), metrics.OTLPMetricExporter(endpoint=urls[1])


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

    def __init__(self, export: EndpointExport, exporter: SpanExporter | MetricExporter) -> None:
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

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        if self._export.ending and self._export.failing:
            return result
        with _Attempt(self._export, self._exporter):
            result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._export.failing = False
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

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = MetricExportResult.FAILURE
        if self._export.ending and self._export.failing:
            return result
        with _Attempt(self._export, self._exporter):
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            self._export.failing = False
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        with _Attempt(self._export, self._exporter):
            self._exporter.shutdown(timeout_millis, **kwargs)
