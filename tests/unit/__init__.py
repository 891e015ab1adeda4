"""One file for each module, by the name of the module."""
