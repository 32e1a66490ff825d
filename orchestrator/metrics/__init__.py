"""What an orchestrator counts, as plain numbers, and the readings that a scrape makes of them."""
