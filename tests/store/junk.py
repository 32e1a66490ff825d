"""What strangers may have put under a key of ours."""

from collections.abc import Callable

from redis import Redis

Junk = Callable[[Redis, bytes | str], object]
"""Puts something under a key."""

JUNK: dict[str, Junk] = {
    "a text": lambda redis, key: redis.set(key, "text"),
    "an empty text": lambda redis, key: redis.set(key, ""),
    "bytes that are no text": lambda redis, key: redis.set(key, b"\xff\xfe\x00" * 10),
    "a huge text": lambda redis, key: redis.set(key, b"x" * 2**24),
    "a list": lambda redis, key: redis.rpush(key, "a", "b"),
    "a set": lambda redis, key: redis.sadd(key, "a", b"\xff"),
    "a sorted set": lambda redis, key: redis.zadd(key, {b"\xff\xfe": 1.5, "": float("inf")}),
    "a stream": lambda redis, key: redis.xadd(key, {"a": "b"}),
    "a hash of other fields": lambda redis, key: redis.hset(key, "other", "field"),
    "a hash whose state is no text": lambda redis, key: redis.hset(key, "s", b"\xff\x00"),
    "a hash whose state is empty": lambda redis, key: redis.hset(key, "s", ""),
    "a hash whose state is huge": lambda redis, key: redis.hset(key, "s", b"1 " * 2**23),
    "a bitmap": lambda redis, key: redis.setbit(key, 1000, 1),
    "a HyperLogLog": lambda redis, key: redis.pfadd(key, "a"),
}


def replace_by(redis: Redis, key: bytes | str, name: str) -> None:
    """Puts junk in the place of what is there."""
    redis.delete(key)
    JUNK[name](redis, key)
