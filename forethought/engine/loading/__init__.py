"""From files to a model that is measured and warm."""
