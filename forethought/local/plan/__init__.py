"""From options to a plan: processes, ports, folders, and what cannot be planned."""
