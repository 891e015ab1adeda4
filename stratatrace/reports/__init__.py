"""What was recorded, for people. Reports read OTLP files: they never meet the recording."""
