"""Drafts that are looked up, in the text itself or in texts counted before: no model, no network.

The draft tier serves them to those who have no text at hand. An orchestrator has, and looks up
itself: `orchestrator/tiers/lookup_first.py`.
"""
