"""The kinds of drafts that can be trained, and what each begins with."""
