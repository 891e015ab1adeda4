"""How a log record is written: by OpenTelemetry's API for them, which is private still.

That API (`opentelemetry._logs`) has changed with the years; what it looks like is known here alone.
"""

from __future__ import annotations

import time
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from stratatrace.telemetry import semconv
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

__all__ = ["is_logger_provider", "provider_in_force", "write_warning"]


def provider_in_force(given: LoggerProvider | None) -> LoggerProvider | None:
    """Return whose log records are to be written; None where nobody takes any.

    Args:
        given: None is the application's, set before or later.
    """
    # Imported with the first record, as most programs see none.
    from opentelemetry._logs import get_logger_provider  # noqa: PLC0415

    provider = given or get_logger_provider()
    return provider if is_logger_provider(provider) else None


def is_logger_provider(provider: object) -> bool:
    """Tell whether it takes log records, and does not stand in until one is set."""
    # The API has no public names for those that do nothing.
    return type(provider).__name__ not in {"ProxyLoggerProvider", "NoOpLoggerProvider"}


def write_warning(
    provider: LoggerProvider,
    event_name: str,
    body: str,
    attributes: Mapping[str, Any],
    context: Context | None = None,
) -> None:
    """Write a record of the severity WARN.

    Args:
        provider: Whose record.
        event_name: What has happened, as a name.
        body: The same as a sentence for people.
        attributes: Its numbers.
        context: Whose span the record belongs to; None is the current context.
    """
    logs: Any = import_module("opentelemetry._logs")
    logger: Any = provider.get_logger(semconv.SCOPE, __version__)
    fields: dict[str, Any] = {
        "timestamp": time.time_ns(),
        "context": context,
        "severity_number": logs.SeverityNumber.WARN,
        "severity_text": "WARN",
        "body": body,
        "attributes": dict(attributes),
        "event_name": event_name,
    }
    if "event_name" in signature(logs.Logger.emit).parameters:
        logger.emit(**fields)
    else:  # Before 1.38, a logger takes only what the SDK has made.
        logger.emit(_record(logger, fields))


def _record(logger: Any, fields: dict[str, Any]) -> Any:
    """Return the SDK's own record of these fields, for a logger that takes no others."""
    make: Any = import_module("opentelemetry.sdk._logs").LogRecord
    known = signature(make.__init__).parameters
    if "context" not in known:
        current = trace.get_current_span(fields.pop("context")).get_span_context()
        fields.update(
            trace_id=current.trace_id, span_id=current.span_id, trace_flags=current.trace_flags
        )
    if "event_name" not in known:
        # What the conventions had for it before there was a field.
        fields["attributes"]["event.name"] = fields.pop("event_name")
    return make(resource=logger.resource, **fields)
