"""Stages (b) and (c): training a draft, and what it is worth."""
