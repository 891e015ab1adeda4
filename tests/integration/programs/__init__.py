"""Programs that the tests run, each in a fresh interpreter; none is imported."""
