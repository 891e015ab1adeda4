"""What looks after memory while a program runs."""
