"""Tests of the pressure of memory."""
