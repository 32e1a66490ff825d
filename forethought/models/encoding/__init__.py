"""Long texts, tokenized in a process of their own."""
