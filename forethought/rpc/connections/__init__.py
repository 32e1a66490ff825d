"""Connections to other processes: channels, and the replicas behind a name."""
