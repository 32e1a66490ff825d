"""Processes of a deployment: started, watched and stopped together."""
