"""The deployment that the documentation talks of, with models of a few tokens."""

from tests.sessions.conftest import deployment, own_server, redis, shared_server

__all__ = ["deployment", "own_server", "redis", "shared_server"]
