"""What a model is called, what its files are, and whether they are whole."""
