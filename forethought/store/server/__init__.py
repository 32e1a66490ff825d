"""The Redis or Valkey server: connections whose troubles are short, and the room that it has."""
