"""What a model is called, what its files are, and how its text becomes token ids and back.

This is the part of a model that an orchestrator needs: references, fingerprints, tokenizers and
chat templates. It runs on the `tokenizers` library and a GGUF metadata reader of our own, so that
a process that only handles text loads neither torch nor transformers, which takes seconds and
hundreds of megabytes.
"""
