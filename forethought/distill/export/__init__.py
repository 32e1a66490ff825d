"""Stage (d): a folder that the draft service loads, and its README."""
