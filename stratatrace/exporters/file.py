"""Export to a file of OTLP JSON lines."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from base64 import b64decode
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace import SpanProcessor

from stratatrace.children import is_worker
from stratatrace.errors import MissingExtraError, OutputError
from stratatrace.exporters.logs import LogProcessor, log_encoder
from stratatrace.guard import outside
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.message import Message
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["FileExport"]

_logger = logging.getLogger("stratatrace")

# A pause to write so many spans is a few milliseconds, and a killed program loses no more.
_SPANS_A_WRITE = 200
_SECONDS_BETWEEN_WRITES = 1.0
_SECONDS_BETWEEN_METRICS = 5.0

_BASE64_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


class FileExport(SpanProcessor):
    """Writes spans, metrics and log records as OTLP JSON lines, in the thread that ends the spans.

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
        self._encode_logs = log_encoder()
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            msg = f"telemetry cannot be written to {str(path)!r}: {error.strerror}"
            raise OutputError(msg) from error
        self.lost_spans = 0
        self._pending: list[ReadableSpan] = []
        self._pending_logs: list[Any] = []
        #: What a LoggerProvider hands its records to; None where they cannot be encoded.
        self.log_processor = (
            None if self._encode_logs is None else LogProcessor(self._take_log, self.force_flush)
        )
        # A pool may end its workers by a signal as soon as their work is done.
        self._in_worker = is_worker()
        # Reentrant: a collection while spans are encoded may end a span in a finalizer.
        self._lock = threading.RLock()
        self._written_at = self._metrics_at = time.monotonic()
        self.metric_exporter = _FileMetricExporter(self)
        #: Has the metrics collected, and so written; set by whoever owns the reader.
        self.collect_metrics: Callable[[], object] = lambda: None

    def elsewhere(self) -> Callable[[], FileExport]:
        """Return what makes the same export in another process; it can be pickled."""
        return partial(FileExport, self.path.absolute())

    @property
    def span_processor(self) -> SpanProcessor:
        """What a TracerProvider hands its spans to."""
        return self

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; write when there are enough of them."""
        if self._file.closed or span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            self._pending.append(span)
            if not self._is_time_to_write():
                return
            self._write_pending()
        if time.monotonic() - self._metrics_at > _SECONDS_BETWEEN_METRICS:
            self._metrics_at = time.monotonic()
            with active.own_work():
                self.collect_metrics()

    def _take_log(self, record: Any) -> None:
        if self._file.closed:
            return
        with self._lock:
            self._pending_logs.append(record)
            if self._is_time_to_write():
                self._write_pending()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 -- the SDK's
        """Write the spans and log records that are waiting."""
        with self._lock:
            self._write_pending()
        return True

    def shutdown(self) -> None:
        """Write those that are waiting, the last."""
        self.force_flush()

    def end(self) -> None:
        """Write the metrics, before the providers are shut down."""
        self.collect_metrics()

    def close(self) -> None:
        """Close the file, after they were."""
        self._file.close()

    def after_fork_in_child(self) -> None:
        """Drop the parent's spans and log records: it writes them itself."""
        self._lock = threading.RLock()
        self._in_worker = True
        self._pending.clear()
        self._pending_logs.clear()

    def write_metrics(self, data: MetricsData) -> bool:
        """Append one line of metrics; return whether it was written."""
        return self._append(_without_spans(self._converted(self._encode_metrics(data))))

    def _is_time_to_write(self) -> bool:
        if self._in_worker and not active.measuring:
            return True
        waited = time.monotonic() - self._written_at
        waiting = len(self._pending) + len(self._pending_logs)
        return waiting >= _SPANS_A_WRITE or waited >= _SECONDS_BETWEEN_WRITES

    def _write_pending(self) -> None:
        self._written_at = time.monotonic()
        if not self._pending and not self._pending_logs:
            return
        with active.own_work():
            spans, self._pending = self._pending, []
            if spans and not self._append(self._converted(self._encode_spans(spans))):
                self.lost_spans += len(spans)
            logs, self._pending_logs = self._pending_logs, []
            if logs and self._encode_logs is not None:
                self._append(_without_spans(self._converted(self._encode_logs(logs))))

    def _converted(self, request: Message) -> dict[str, Any]:
        converted: dict[str, Any] = self._to_dict(request, use_integers_for_enums=True)
        for group in ("resourceSpans", "resourceMetrics", "resourceLogs"):
            for part in converted.get(group, ()):
                _set_process_id(part)
        _ids_to_hex(converted)
        return converted

    def _append(self, line: dict[str, Any]) -> bool:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        try:
            self._file.write(text.encode())
        except (OSError, ValueError) as error:  # ValueError: the file was closed.
            outside.count()
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


def _without_spans(line: dict[str, Any]) -> dict[str, Any]:
    """Give a line an empty list of spans.

    It makes the line acceptable where a reader of traces wants every line to have one (Jaeger's
    upload), and is nothing to all others.
    """
    return {"resourceSpans": [], **line}


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
