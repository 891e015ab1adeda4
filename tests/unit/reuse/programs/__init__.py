"""Programs that the tests of stores run in processes of their own."""

"""Programs that tests of lazy values run."""
"""Programs that the tests run."""
