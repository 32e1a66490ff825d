"""`forethought chat`: a conversation in a terminal, or from a pipe."""
