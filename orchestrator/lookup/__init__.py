"""Drafts that are looked up, in the session's own text or in texts counted before: no model, no
network.

lookup             the seam: what a lookup and its sessions do
suffix, ngram      look the end of the text up in the text itself, and in what it may repeat
counts             looks it up in a file of counted texts
settings           what can be said of them, and the lookups that follow from it

`orchestrator/tiers/lookup_first.py` asks them before it asks the draft tier.
"""
