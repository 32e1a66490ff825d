"""Weights as they are stored: checkpoints, GGUF files, matrices in groups of small numbers."""
