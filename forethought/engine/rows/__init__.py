"""From logits to draws: rows over a vocabulary."""
