"""Stands for Strataregula, as far as its optimizers go: its names and its ways, and little else.

What is odd here is odd there, and matters to whoever replaces a part of it.
"""
