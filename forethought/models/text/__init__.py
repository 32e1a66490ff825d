"""Text to token ids and back, with the tokenizers of folders and of GGUF files."""
