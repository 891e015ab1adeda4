"""Where telemetry goes when nobody has said so: an OTLP file, or an OTLP endpoint.

Both are made of the SDK's own parts. What is added here: a file needs no server and no thread; an
endpoint that cannot be reached is told of once, and costs the program nothing but the loss.
"""

from __future__ import annotations

from stratatrace.exporters.endpoint import EndpointExport
from stratatrace.exporters.fanout import FanOutMetricExporter
from stratatrace.exporters.file import FileExport
from stratatrace.exporters.logs import logger_provider

__all__ = ["EndpointExport", "FanOutMetricExporter", "FileExport", "logger_provider"]
