"""poise measures how good, how fast and how costly an LLM deployment is, on the same requests."""
