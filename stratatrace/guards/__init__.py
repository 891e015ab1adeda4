"""What looks after memory while a program runs: limits that hold, and monitors."""
