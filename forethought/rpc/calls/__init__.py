"""What happens around every call: who may call, what is counted, what the log says of it."""
