"""Keys and values in blocks: found, fetched, and written behind the back of who computes."""
