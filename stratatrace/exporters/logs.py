"""Log records on their way out, by the SDK's parts for them.

Those are private still (`opentelemetry.sdk._logs`), and some have changed their names: what there
is of them is known here alone. An SDK that has none of them exports spans and metrics all the same.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource

__all__ = ["LogExporter", "LogProcessor", "batching", "log_encoder", "logger_provider", "otlp_logs"]


class LogProcessor:
    """What a LoggerProvider hands its records to.

    Args:
        take: Takes one of them.
        flush: Writes those that are waiting.
    """

    def __init__(self, take: Callable[[Any], None], flush: Callable[[], object]) -> None:
        self._take = take
        self._flush = flush

    def on_emit(self, log_record: Any) -> None:
        """Take a record."""
        self._take(log_record)

    emit = on_emit  # Its name before 1.35.

    def enabled(self, **_kwargs: Any) -> bool:
        """Tell that it takes every record."""
        return True

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 -- the SDK's
        """Write the records that are waiting."""
        self._flush()
        return True

    def shutdown(self) -> None:
        """Write them, the last."""
        self._flush()


class LogExporter:
    """Hands records to an exporter of the SDK's; base of those that do more about it.

    Args:
        exporter: One of theirs.
    """

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def export(self, batch: Any) -> Any:
        """Export, and return what theirs does."""
        return self._exporter.export(batch)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush theirs, where it has anything to flush."""
        flush = getattr(self._exporter, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))

    def shutdown(self) -> None:
        """Shut theirs down."""
        self._exporter.shutdown()


def logger_provider(processors: Iterable[Any], resource: Resource) -> LoggerProvider | None:
    """Return a provider for those processors; None where there is nothing to make one of."""
    processors = [each for each in processors if each is not None]
    sdk = _module("opentelemetry.sdk._logs")
    if sdk is None or not processors:
        return None
    # The SDK's own exit handler waits for half a minute.
    provider: Any = sdk.LoggerProvider(resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_log_record_processor(processor)
    made: LoggerProvider = provider
    return made


def batching(exporter: LogExporter) -> Any:
    """Return the SDK's processor that exports from a thread of its own; None without one."""
    export = _module("opentelemetry.sdk._logs.export")
    return None if export is None else export.BatchLogRecordProcessor(exporter)


def otlp_logs(package: str, endpoint: str | None) -> Any:
    """Return the OTLP exporter for log records; None without one.

    Args:
        package: ``grpc`` or ``http``.
        endpoint: Where they go; None leaves it to the environment.
    """
    module = _module(f"opentelemetry.exporter.otlp.proto.{package}._log_exporter")
    return None if module is None else module.OTLPLogExporter(endpoint=endpoint)


def log_encoder() -> Callable[[Any], Any] | None:
    """Return what makes an OTLP request of records; None without it."""
    module = _module("opentelemetry.exporter.otlp.proto.common._log_encoder")
    encode: Callable[[Any], Any] | None = getattr(module, "encode_logs", None)
    return encode


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None
