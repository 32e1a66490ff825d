"""Keys and values of sessions: blocks, sequences, and their archive."""
