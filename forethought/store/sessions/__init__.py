"""Session records: their fields, and the scripts that add to them in one step."""
