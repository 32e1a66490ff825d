"""Messages between the orchestrator and a tier, to values and back."""
