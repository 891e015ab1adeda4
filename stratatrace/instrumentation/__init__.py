"""Instrumentations of other libraries, one folder each."""
