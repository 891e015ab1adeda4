"""Programs that the tests of stores run in processes of their own."""
