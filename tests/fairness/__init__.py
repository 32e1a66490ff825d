"""One client does not starve the others."""
