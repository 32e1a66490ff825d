"""A generation as it was received: three rounds, one of each kind."""

from forethought.generation import (
    Finished,
    FinishReason,
    GenerationEvent,
    JudgedToken,
    SpeculationStatistics,
    Started,
    Step,
    Token,
    TopLogprob,
    Verdict,
)
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import OutputToken, TokenOrigin

STARTED = Started(
    "s-1",
    seed=7,
    num_prompt_tokens=31,
    model="SmolLM2-135M-Instruct",
    sampling=SamplingParams(seed=7),
)

UNDRAFTED = Step(
    round=0,
    position=31,
    drafted=(),
    final=OutputToken(504, TokenOrigin.BONUS, None, 0.25),
    final_text="The",
    speculation_ns=10_000,
    verification_ns=40_000_000,
    rejection_ns=20_000,
)
REJECTED = Step(
    round=1,
    position=32,
    drafted=(
        JudgedToken(2365, " quick", 0.5, 0.75, Verdict.ACCEPTED),
        JudgedToken(2644, " red", 0.25, 0.03125, Verdict.REJECTED),
        JudgedToken(16438, " fox", 1.0, 0.00003, Verdict.DROPPED),
    ),
    final=OutputToken(6354, TokenOrigin.RECOVERED, None, 0.4375),
    final_text=" brown",
    speculation_ns=10_000,
    verification_ns=50_000_000,
    rejection_ns=20_000,
)
ACCEPTED = Step(
    round=2,
    position=34,
    drafted=(JudgedToken(16438, " fox", 0.875, 0.9375, Verdict.ACCEPTED),),
    final=OutputToken(198, TokenOrigin.BONUS, None, 1.0),
    final_text="\n",
    speculation_ns=10_000,
    verification_ns=45_000_000,
    rejection_ns=20_000,
)

TOKENS = (
    Token(0, 504, "The", TokenOrigin.BONUS, None, 0.25),
    Token(1, 2365, " quick", TokenOrigin.ACCEPTED, 0.5, 0.75),
    Token(2, 6354, " brown", TokenOrigin.RECOVERED, None, 0.4375),
    Token(3, 16438, " fox", TokenOrigin.ACCEPTED, 0.875, 0.9375),
    Token(4, 198, "\n", TokenOrigin.BONUS, None, 1.0),
)

FINISHED = Finished(
    FinishReason.LENGTH,
    num_prompt_tokens=31,
    num_output_tokens=5,
    speculation=SpeculationStatistics(
        num_rounds=3,
        num_draft_tokens=4,
        num_accepted_tokens=2,
        num_accepted_tokens_per_position=(2,),
        speculation_ns=30_000,
        verification_ns=135_000_000,
        rejection_ns=60_000,
    ),
    time_to_first_token_ns=50_000_000,
    total_ns=160_000_000,
)

TEXT = "The quick brown fox\n"

ROUNDS: tuple[tuple[GenerationEvent, ...], ...] = (
    (STARTED,),
    (UNDRAFTED, TOKENS[0]),
    (REJECTED, *TOKENS[1:3]),
    (ACCEPTED, *TOKENS[3:]),
    (FINISHED,),
)
"""What each message of the stream carried."""

EVENTS = tuple(event for events in ROUNDS for event in events)

WITH_LOGPROBS = Token(
    0,
    504,
    "The",
    TokenOrigin.BONUS,
    None,
    0.25,
    logprob=-1.25,
    top_logprobs=(TopLogprob(504, "The", -1.25), TopLogprob(57, "A", -2.5)),
)
