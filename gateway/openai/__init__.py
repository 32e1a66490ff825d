"""OpenAI's routes: what they take and what they answer, as far as the deployment can do it."""
