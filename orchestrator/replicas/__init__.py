"""The replicas of a tier: where they are, how they do, and which one a session takes."""
