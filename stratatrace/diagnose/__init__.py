"""Finders: which lines grow, what leaks, and what only the collector could free."""
