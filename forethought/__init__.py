"""Speculative decoding as microservices: what the tiers share.

`sampling` holds the algorithms, `models` finds model files and reads vocabularies,
`engine` runs models, `store` talks to Redis, `rpc` speaks gRPC, `cli` is the command line.
The layers are checked by import-linter; see `docs/architecture.md`.
"""

__version__ = "0.1.0"
