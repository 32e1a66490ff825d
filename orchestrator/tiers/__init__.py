"""The two tiers as the loop sees them, each behind one stream, and lookups."""
