"""Step 2, parallel verification: the target tier.

It measures drafted tokens in one forward pass and returns the target's probabilities. It decides
nothing; rejection sampling is the orchestrator's.
"""
