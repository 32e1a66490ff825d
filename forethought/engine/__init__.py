"""Models, their KV caches, and what becomes of their logits: the only layer that knows torch."""
