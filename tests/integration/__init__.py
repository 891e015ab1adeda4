"""Tests that send telemetry to real servers and read it back from them."""
