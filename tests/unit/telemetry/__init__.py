"""What OpenTelemetry is given."""
