"""Step 3, rejection sampling, and the loop around all three steps.

The orchestrator asks the draft tier for guesses, has the target tier measure them, decides by
rejection sampling, and streams what stays. It holds no model: a tokenizer and numpy are enough.
"""
