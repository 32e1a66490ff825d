"""The thread of an engine, and the mailbox between it and the event loop.

Each side has things done by the other: the event loop sends messages, which the thread takes when
it is between two passes, and the thread calls back into the event loop. Nothing else is shared.

A thread that ends by an exception, or that cannot be started, closes the mailbox, tells `failure`,
which ends the process, and then the event loop, so that nobody waits for it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from forethought.runtime.heartbeat import Heartbeat
from forethought.runtime.supervision import Failure

Message = Callable[[], None]
"""Something to do on the other side."""


class EngineThread:
    """Starts with the first message.

    Args:
        run: what it does; takes messages until `is_closed`.
        on_failure: called in the event loop once the thread cannot go on.
        longest_step_s: of its work, as far as it is known before there was any.
    """

    def __init__(self, run: Callable[[], None], on_failure: Message, longest_step_s: float) -> None:
        self._run = run
        self._on_failure = on_failure
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._guard, name="engine", daemon=True)
        self.is_closed = False
        """Whether it takes no more work. What was sent before is still done."""
        self.failure = Failure("engine")
        """Why it has ended, if it has for no good reason."""
        self.heartbeat = Heartbeat("engine", longest_step_s)
        """A step is a pass, with what follows from it."""

    @property
    def num_messages(self) -> int:
        """Sent and not taken yet, roughly."""
        return self._messages.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    # In the event loop.

    def use_running_loop(self) -> None:
        """The thread calls this event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def send(self, message: Message) -> None:
        """Has something done in the thread, in the order of sending."""
        self._messages.put(message)
        if self._thread.is_alive() or self.is_closed:
            return
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._end(error)

    def close(self, last: Message) -> None:
        """Takes no more work, once `last` is done."""
        self.is_closed = True
        self._messages.put(last)

    async def join(self) -> None:
        """Waits until the thread has ended."""
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    # In the thread.

    def take_messages(self, timeout_s: float | None) -> bool:
        """Does what has been sent; waits for the first message if there is none.

        Returns:
            Whether there was any.
        """
        if timeout_s != 0:
            self.heartbeat.rest()
        try:
            message = self._messages.get(timeout_s != 0, timeout_s)
        except Empty:
            return False
        self.heartbeat.beat()
        with suppress(Empty):
            while True:
                message()
                message = self._messages.get_nowait()
        return True

    def call_loop(self, callback: Message) -> None:
        """Has something done in the event loop."""
        assert self._loop is not None
        # The event loop may have ended with its process.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def new_future(self) -> "asyncio.Future[Any]":
        """One that the event loop may wait for. On either side."""
        assert self._loop is not None
        return self._loop.create_future()

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - the last guard; MemoryError is the likeliest
            self._end(error)
        finally:
            self.heartbeat.rest()

    def _end(self, error: BaseException) -> None:
        """The thread cannot go on."""
        self.is_closed = True
        try:
            self.failure.happened(error)
        finally:
            self.call_loop(self._on_failure)
