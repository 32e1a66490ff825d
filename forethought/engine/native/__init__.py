"""The C extension, and the threads that it computes with."""
