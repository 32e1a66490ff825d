"""The prompt of a request that asks for its log-probabilities, as its client sees it."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from forethought.generation import PromptToken, Waiting
from forethought.models.text.detokenizer import StreamingDetokenizer
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.params import SamplingParams
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.prompt_scores import ScoredToken, score_prompt
from orchestrator.loop.session import Session
from orchestrator.request.output import with_texts
from orchestrator.request.plan import Deployment, GenerationPlan
from orchestrator.tiers.remote_verifier import RemoteVerifier


class PromptScoring:
    """Scores the prompt of one request, over a stream of its own.

    Args:
        session_id: of the request.
        plan: of the request.
        deployment: what is served.
        verifier: for this alone.
    """

    def __init__(
        self,
        session_id: str,
        plan: GenerationPlan,
        deployment: Deployment,
        verifier: RemoteVerifier,
    ) -> None:
        self._token_ids = plan.prompt_token_ids
        self._deployment = deployment
        self._verifier = verifier
        self._num_scored = 0
        self._session = Session(
            session_id,
            CommittedTokens.of(self._token_ids[:1]),
            max_len=len(self._token_ids),
            sampling=SamplingParams(),
            tenant=plan.tenant,
        )

    @property
    def waiting(self) -> Waiting | None:
        """What the next tokens of the prompt wait for; None once there are none to come."""
        num_tokens = len(self._token_ids) - 1  # nothing is computed for the first
        if self._num_scored == num_tokens:
            return None
        lost = self._verifier.waiting
        return Waiting(self._num_scored, num_tokens, lost is not None and lost.is_target_lost)

    async def start(self) -> None:
        """Has a target take the prompt; raises as `RemoteVerifier.start`."""
        await self._verifier.start(self._session)

    async def tokens(self) -> AsyncGenerator[Sequence[PromptToken]]:
        """All tokens of the prompt, a round at a time; raises as `RemoteVerifier.verify`."""
        first, *rest = self._token_ids
        tokenizer = self._deployment.tokenizer
        texts = StreamingDetokenizer(tokenizer)
        max_k = self._deployment.max_num_speculative_tokens
        scored = score_prompt(self._session, rest, self._verifier, max_k)
        yield [PromptToken(0, first, texts.push(first))]
        async with aclosing(scored):
            async for tokens in scored:
                told = list(_told(tokens, self._num_scored + 1, texts, tokenizer))
                self._num_scored += len(tokens)
                yield told

    def close(self) -> None:
        """Ends the stream."""
        self._verifier.close()


def _told(
    tokens: Sequence[ScoredToken], start: int, texts: StreamingDetokenizer, tokenizer: TextTokenizer
) -> Iterator[PromptToken]:
    for index, token in enumerate(tokens, start):
        yield PromptToken(
            index,
            token.token_id,
            texts.push(token.token_id),
            token.logprob,
            with_texts(token.top_logprobs, tokenizer),
        )
