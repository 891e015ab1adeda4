"""Pools, lazy values, caches and compressed stores: what is dear is made once, and kept small."""
