"""HTTP without OpenAI: bodies, errors, event streams, the life of the server."""
