"""Where memory numbers come from."""
