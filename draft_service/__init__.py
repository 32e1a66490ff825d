"""Step 1, speculation: the draft tier.

It guesses the next tokens and says how likely each guess was. It neither checks nor commits any.
"""
