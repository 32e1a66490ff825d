"""A deployment on one machine: planned, started, watched and stopped."""
