"""The edge to OpenTelemetry: names, and the two sinks that write spans and metrics."""
