"""OpenTelemetry instrumentors: a package for each library that is measured without its knowing."""
