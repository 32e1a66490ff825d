"""A deployment under mixed clients for a long time, some of them hostile."""
