"""The life of a process that serves: listen, load, serve, drain."""
