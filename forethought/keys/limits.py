"""How much a key may: a bucket for requests and one for tokens, each of a minute's worth."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from forethought.errors import OverloadedError
from forethought.keys.key_file import ApiKey

Clock = Callable[[], float]
"""Seconds that never go back."""


class _Bucket:
    """Fills within a minute. It may owe: what a request will take is known at its end."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._seen_s = clock()

    def missing_s(self, wanted: float) -> float:
        """Seconds until it holds so much; 0 if it does."""
        now_s = self._clock()
        per_s = self.per_minute / 60
        self._level = min(self.per_minute, self._level + per_s * (now_s - self._seen_s))
        self._seen_s = now_s
        return max(wanted - self._level, 0) / per_s

    def take(self, number: float) -> None:
        """Takes so much, whether it is there or not."""
        self._level -= number


class KeyLimits:
    """What one key has used, on this process.

    Args:
        key: as its file says.
        clock: of the buckets.
    """

    def __init__(self, key: ApiKey, clock: Clock = time.monotonic) -> None:
        self.key = key
        self._num_calls = 0
        self._requests = _bucket(key.requests_per_minute, clock)
        self._tokens = _bucket(key.tokens_per_minute, clock)

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, for as long as the block lasts.

        Raises:
            OverloadedError: the key has used what it may; the error says for how long.
        """
        most = self.key.max_concurrent
        if most is not None and self._num_calls >= most:
            raise OverloadedError(f"the key has {most} calls under way, and may have no more")
        _check(self._requests, "requests")
        _check(self._tokens, "tokens")
        if self._requests is not None:
            self._requests.take(1)
        self._num_calls += 1
        try:
            yield
        finally:
            self._num_calls -= 1

    def spend(self, num_tokens: int) -> None:
        """Counts tokens of a prompt or an output."""
        if self._tokens is not None:
            self._tokens.take(num_tokens)


def _bucket(per_minute: int | None, clock: Clock) -> _Bucket | None:
    return None if per_minute is None else _Bucket(per_minute, clock)


def _check(bucket: _Bucket | None, what: str) -> None:
    if bucket is not None and (missing_s := bucket.missing_s(1)):
        why = f"the key may take {bucket.per_minute} {what} a minute, and has"
        raise OverloadedError(why, retry_after_s=missing_s)
