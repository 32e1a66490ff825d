"""What a client asks for and is told: plans, bounds, texts, places."""
