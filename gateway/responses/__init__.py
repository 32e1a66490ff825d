"""OpenAI's Responses on durable sessions: a response is a session with one turn.

`previous_response_id` branches off the session of that response, which stays as it is. What a
response is asked with goes with its session as a note, so any gateway finds it again.
"""
