"""Drafts for any target, made from the target alone: `forethought distill`; see docs/distill.md."""
