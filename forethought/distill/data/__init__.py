"""Stage (a): a target writes texts, and what it computes on them is kept."""
