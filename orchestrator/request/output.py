"""From judged tokens to what the client sees: text pieces, stop conditions, the end.

Generation ends at a token that is a function of the tokens before it alone, wherever a round
happened to end. What rejection sampling put behind it is dropped, which changes no distribution.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forethought.generation import FinishReason, Token, TopLogprob
from forethought.models.text.detokenizer import StreamingDetokenizer
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.types import OutputToken
from orchestrator.request.stop_matcher import StopMatcher


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the output ended."""

    reason: FinishReason
    matched_stop: str = ""
    matched_stop_token_id: int | None = None


class Output:
    """The output of one request as it grows."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        prompt_token_ids: Sequence[int],
        *,
        max_tokens: int,
        stops: Sequence[str],
        stop_token_ids: frozenset[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = StreamingDetokenizer(tokenizer, prompt_token_ids)
        self._matcher = StopMatcher(stops, tokenizer.special_token_ids)
        self._max_tokens = max_tokens
        self._stop_token_ids = stop_token_ids
        self.num_tokens = 0
        """Tokens generated, those held back included."""
        self.ending = None if max_tokens else Ending(FinishReason.LENGTH)
        """Set once the output has ended."""

    def push(self, tokens: Sequence[OutputToken]) -> list[Token]:
        """Takes the tokens of a round and returns those that the client may see now."""
        visible: list[Token] = []
        for token in tokens:
            visible += self._push_one(token)
            if self.ending:
                break
        return visible

    def _push_one(self, token: OutputToken) -> list[Token]:
        ending = self._ending_at(token.token_id)
        text = self._detokenizer.push(token.token_id)
        if ending:
            # Nothing will complete a character that is still open.
            text += self._detokenizer.flush()
        is_special = not self._tokenizer.has_text(token.token_id)
        visible = self._matcher.push(self._as_shown(token, text), is_special=is_special)
        self.num_tokens += 1
        if self._matcher.matched:
            self.ending = Ending(FinishReason.STOP, matched_stop=self._matcher.matched)
        elif ending:
            self.ending = ending
            visible += self._matcher.flush()
        return visible

    def _ending_at(self, token_id: int) -> Ending | None:
        """Whether generation ends with the next token, leaving stop texts aside."""
        if token_id in self._stop_token_ids:
            return Ending(FinishReason.STOP, matched_stop_token_id=token_id)
        if self.num_tokens + 1 == self._max_tokens:
            return Ending(FinishReason.LENGTH)
        return None

    def _as_shown(self, token: OutputToken, text: str) -> Token:
        return Token(
            index=self.num_tokens,
            token_id=token.token_id,
            text=text,
            origin=token.origin,
            draft_prob=token.draft_prob,
            target_prob=token.target_prob,
            logprob=token.logprob,
            top_logprobs=with_texts(token.top_logprobs, self._tokenizer),
        )


def with_texts(
    top_logprobs: Iterable[tuple[int, float]], tokenizer: TextTokenizer
) -> tuple[TopLogprob, ...]:
    """The most likely tokens at a place, with the text of each."""
    return tuple(
        TopLogprob(token_id, tokenizer.token_text(token_id), logprob)
        for token_id, logprob in top_logprobs
    )
