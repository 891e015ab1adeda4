"""Pools, lazy values, caches and stores."""
