"""What operators see of a process: metrics, and whether it lives and serves."""
