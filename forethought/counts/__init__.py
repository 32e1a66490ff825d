"""A draft made of counts: what followed which tokens in texts that the target itself has written.

Where nothing can be trained, texts of the target are still cheap to have, and counting them takes
seconds. `corpus` reads them, `ngrams` counts runs of tokens, `builder` smooths the counts and keeps
what says something, `table` looks up, `file` stores, `replay` measures on texts left out.
"""
