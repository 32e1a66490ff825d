"""`forethought generate`: a text from a deployment."""
