"""Counts over requests, from being let in to the last token that a client is given."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from forethought.errors import ForethoughtError
from forethought.generation import Finished, GenerationEvent, Started, Token
from forethought.observability.buckets import FIRST_TOKEN_S, REQUEST_S, TOKEN_S, text_lengths
from forethought.observability.histogram import Histogram
from forethought.runtime.supervision import NOBODYS_TO_ANSWER


class RequestCounts:
    """Since the process began.

    Args:
        max_model_len: longest text, tokens.
        clock: in seconds.
    """

    def __init__(self, max_model_len: int, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.num_waiting = 0
        """Requests under way that no target has taken yet."""
        self.num_running = 0
        """The others under way."""
        self.num_ended: Counter[str] = Counter()
        """By how: a finish reason's value, abort or error."""
        self.num_failed: Counter[str] = Counter()
        """By the error's reason."""
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.num_output_tokens = 0
        lengths = text_lengths(max_model_len)
        self.prompt_len = Histogram(lengths)
        self.output_len = Histogram(lengths)
        self.max_tokens = Histogram(lengths)
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.between_tokens = Histogram(TOKEN_S)
        self.per_token = Histogram(TOKEN_S)
        self.whole = Histogram(REQUEST_S)
        self.queue = Histogram(REQUEST_S)
        self.prefill = Histogram(REQUEST_S)
        self.decode = Histogram(REQUEST_S)
        self.inference = Histogram(REQUEST_S)

    @contextmanager
    def request(self) -> Iterator["RequestTimer"]:
        """Counts one request from now until the block is left."""
        timer = RequestTimer(self)
        self.num_waiting += 1
        try:
            yield timer
        except BaseException as error:
            if not timer.is_finished:
                self._fail(error)
            raise
        finally:
            if timer.is_running:
                self.num_running -= 1
            else:
                self.num_waiting -= 1

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, NOBODYS_TO_ANSWER):
            self.num_ended["abort"] += 1
            return
        self.num_ended["error"] += 1
        # The class's own: what a tier calls its error is not bounded.
        reason = type(error).reason if isinstance(error, ForethoughtError) else "INTERNAL"
        self.num_failed[reason] += 1


class RequestTimer:
    """Hears what one request is given, when it is given."""

    def __init__(self, counts: RequestCounts) -> None:
        self._counts = counts
        self._arrived_s = counts.clock()
        self._taken_s = self._arrived_s
        self._first_s: float | None = None  # when its first token was given
        self._last_s = 0.0  # and its last one so far
        self.is_running = False
        """Whether a target has taken it."""
        self.is_finished = False
        """Whether it was given all."""

    def planned(self, max_tokens: int) -> None:
        """The request may bring so many tokens."""
        self._counts.max_tokens.observe(max_tokens)

    def take(self, events: Sequence[GenerationEvent]) -> None:
        """What the client is given at this moment."""
        num_tokens = 0
        for event in events:
            match event:
                case Token():
                    num_tokens += 1
                case Started():
                    self._start(event)
                case Finished():
                    self._take_tokens(num_tokens)
                    num_tokens = 0
                    self._finish(event)
        self._take_tokens(num_tokens)

    def _start(self, event: Started) -> None:
        counts = self._counts
        counts.num_waiting -= 1
        counts.num_running += 1
        self.is_running = True
        self._taken_s = counts.clock()
        counts.num_prompt_tokens += event.num_prompt_tokens
        counts.num_cached_tokens += event.num_cached_tokens
        counts.prompt_len.observe(event.num_prompt_tokens)
        counts.queue.observe(self._taken_s - self._arrived_s)

    def _take_tokens(self, num_tokens: int) -> None:
        if not num_tokens:
            return
        counts = self._counts
        now_s = counts.clock()
        counts.num_output_tokens += num_tokens
        if self._first_s is None:
            self._first_s = now_s
            counts.first_token.observe(now_s - self._arrived_s)
            counts.prefill.observe(now_s - self._taken_s)
        else:
            counts.between_tokens.observe(now_s - self._last_s)
        self._last_s = now_s

    def _finish(self, event: Finished) -> None:
        counts = self._counts
        now_s = counts.clock()
        self.is_finished = True
        counts.num_ended[event.reason.value] += 1
        counts.output_len.observe(event.num_output_tokens)
        counts.whole.observe(now_s - self._arrived_s)
        counts.inference.observe(now_s - self._taken_s)
        if self._first_s is None:
            return
        decode_s = now_s - self._first_s
        counts.decode.observe(decode_s)
        if event.num_output_tokens > 1:
            counts.per_token.observe(decode_s / (event.num_output_tokens - 1))
