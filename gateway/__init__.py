"""OpenAI's HTTP API in front of the orchestrators. Stateless, and a client of GenerationService."""
