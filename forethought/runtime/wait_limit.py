"""A time limit for waits that follow each other, and hardly ever take too long.

A stream waits several times for each token. `asyncio.timeout` makes a timer each time, which costs
about as much as the wait itself. Here all waits share one timer. It is set by the first wait; if it
goes off before the wait under way is due, it is set again.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class WaitLimit:
    """Ends a wait that takes too long. For one wait at a time, in one event loop.

    Args:
        seconds: that each wait may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Task[object] | None = None  # of the wait under way
        self._due_s = 0.0  # when that has taken too long, by the loop's clock
        self._has_passed = False

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """What `awaitable` returns.

        Raises:
            TimeoutError: it took too long, and was cancelled.
        """
        waiter = asyncio.current_task(self._loop)
        if waiter is None:
            raise RuntimeError("only a task can wait")
        num_cancelling = waiter.cancelling()
        self._due_s = self._loop.time() + self._seconds
        self._has_passed = False
        self._waiter = waiter
        if self._timer is None:
            self._timer = self._loop.call_at(self._due_s, self._look)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._has_passed and waiter.cancelling() == num_cancelling + 1:
                raise TimeoutError from None
            raise  # somebody else wants the task to end
        finally:
            self._waiter = None
            if self._has_passed:
                waiter.uncancel()

    def close(self) -> None:
        """Forgets the timer. Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return  # the next wait sets it again
        if self._loop.time() < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._look)
        else:
            self._has_passed = True
            self._waiter.cancel()
