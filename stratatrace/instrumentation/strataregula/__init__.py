"""Strataregula, measured and made lighter without a change to its code."""
