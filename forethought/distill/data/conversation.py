"""One sample while it is generated."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from forethought.distill.data.prompts import Prompt
from forethought.distill.data.turns import Turns

_CHECK_EVERY = 16  # tokens, between two looks for a loop
_MAX_PERIOD = 32
_MIN_LOOP = 64  # tokens that repeat before it counts
_KEPT_PERIODS = 2


@dataclass(frozen=True, slots=True)
class Lengths:
    """Where turns are cut off, tokens."""

    max_user: int = 96
    max_answer: int = 256
    min_answer: int = 4  # shorter ones are dropped


@dataclass(eq=False, slots=True)
class Conversation:
    """A user turn that becomes an answer, token by token.

    The log holds what was given and drawn; `pending` of it is not computed yet.
    """

    number: int  # of the sample in the run
    prompt: Prompt
    turns: Turns
    lengths: Lengths
    user_temperature: float
    max_len: int  # of the log
    log: list[int] = field(default_factory=list)
    answer_start: int = 0  # 0 while the user speaks
    num_computed: int = 0
    is_done: bool = False

    def __post_init__(self) -> None:
        self.log.extend(self.prompt.token_ids)
        if not self.prompt.asks:
            self.answer_start = len(self.log)

    @property
    def pending(self) -> Sequence[int]:
        """Tokens of the log to be computed: at least one until it is done."""
        return self.log[self.num_computed :]

    @property
    def temperature(self) -> float:
        """Of the next token."""
        return self.prompt.temperature if self.answer_start else self.user_temperature

    def computed(self) -> None:
        """A pass has computed all that was pending."""
        self.num_computed = len(self.log)

    def add(self, token_id: int) -> None:
        """The token drawn after all that is computed."""
        self._take(token_id)
        if len(self.log) >= self.max_len:
            del self.log[self.max_len :]
            self.is_done = True

    def _take(self, token_id: int) -> None:
        self.log.append(token_id)
        is_end = token_id in self.turns.end_token_ids
        if not self.answer_start:
            num_user = len(self.log) - len(self.prompt.token_ids)
            if is_end or num_user >= self.lengths.max_user:
                self.log += self.turns.closing(self.log)
                self.answer_start = len(self.log)
                # Of a model without turns the end of a text is the end.
                self.is_done = is_end and not self.turns.footer
            return
        num_answer = len(self.log) - self.answer_start
        self.is_done = is_end or num_answer >= self.lengths.max_answer
        if num_answer % _CHECK_EVERY == 0 and num_answer > _MIN_LOOP:
            self._leave_loop()

    def is_kept(self) -> bool:
        """Whether there is enough of an answer."""
        return (
            bool(self.answer_start) and len(self.log) - self.answer_start >= self.lengths.min_answer
        )

    def _leave_loop(self) -> None:
        """Ends an answer that only repeats itself, and keeps little of the repetition: a lookup
        drafts it better than any model."""
        period = loop_period(self.log[self.answer_start :])
        if not period:
            return
        answer = self.log[self.answer_start :]
        repeated = period
        while repeated < len(answer) and answer[-repeated - 1] == answer[-repeated - 1 + period]:
            repeated += 1
        del self.log[len(self.log) - max(repeated - _KEPT_PERIODS * period, 0) :]
        self.is_done = True


def loop_period(token_ids: Sequence[int]) -> int:
    """The shortest period in which the last tokens repeat; 0 if they do not."""
    tail = token_ids[-_MIN_LOOP:]
    for period in range(1, _MAX_PERIOD + 1):
        if len(tail) == _MIN_LOOP and tail[period:] == tail[:-period]:
            return period
    return 0
