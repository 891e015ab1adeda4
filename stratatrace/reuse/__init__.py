"""What takes memory once and uses it again, or takes less of it: each tells what it saves."""
