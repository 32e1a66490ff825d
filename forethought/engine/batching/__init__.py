"""Many sessions in one pass: the engine and its scheduler."""
