"""What a model is to the engine: passes over several sequences, and keys and values in blocks."""
