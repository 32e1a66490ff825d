"""`forethought up`: every tier on this machine."""
