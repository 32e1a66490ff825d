"""Between messages and values."""
