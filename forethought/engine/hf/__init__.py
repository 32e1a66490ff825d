"""Models in transformers' own code."""
