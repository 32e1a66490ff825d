"""A decoder of our own for the Llama family on a CPU, and for feature drafts."""
