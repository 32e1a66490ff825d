"""`forethought keys`: the file of API keys."""
