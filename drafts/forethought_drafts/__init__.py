"""Drafts as data: a folder each, which `draft:NAME` names. Nothing is imported from here."""
