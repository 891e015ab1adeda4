"""Tests of what looks after memory while a program runs."""
