"""The data as training reads it: a vocabulary, a corpus in memory, batches."""
