"""Conversations to text, by the templates of models, which are foreign code."""
