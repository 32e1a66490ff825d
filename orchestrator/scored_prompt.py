"""The prompt of a request that asks for its log-probabilities, as its client sees it."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing

from forethought.generation import PromptToken
from forethought.models.text.detokenizer import StreamingDetokenizer
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.params import SamplingParams
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.prompt_scores import ScoredToken, score_prompt
from orchestrator.loop.session import Session
from orchestrator.request.output import with_texts
from orchestrator.request.plan import Deployment, GenerationPlan
from orchestrator.tiers.remote_verifier import RemoteVerifier


async def scored_prompt(
    session_id: str, plan: GenerationPlan, deployment: Deployment, verifier: RemoteVerifier
) -> list[Sequence[PromptToken]]:
    """All tokens of the prompt, a round at a time.

    Args:
        session_id: of the request.
        plan: of the request; it bounds what is held here.
        deployment: what is served.
        verifier: for this alone; is closed.

    Raises:
        ForethoughtError: as `RemoteVerifier.verify`.
    """
    first, *rest = plan.prompt_token_ids
    session = Session(
        session_id,
        CommittedTokens.of([first]),
        max_len=len(plan.prompt_token_ids),
        sampling=SamplingParams(),
        tenant=plan.tenant,
    )
    texts = StreamingDetokenizer(deployment.tokenizer)
    told: list[Sequence[PromptToken]] = [[PromptToken(0, first, texts.push(first))]]
    scored = score_prompt(session, rest, verifier, deployment.max_num_speculative_tokens)
    index = 1
    try:
        async with aclosing(scored):
            async for tokens in scored:
                told.append(list(_told(tokens, index, texts, deployment.tokenizer)))
                index += len(tokens)
    finally:
        verifier.close()
    return told


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
