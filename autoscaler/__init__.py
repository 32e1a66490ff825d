"""How many replicas each tier should have, by its own signal (`docs/scaling.md`)."""
