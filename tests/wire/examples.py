"""Values that say something in every field, so that a field that is forgotten shows."""

import numpy as np

from forethought.generation import (
    ChatMessage,
    Finished,
    FinishReason,
    FollowUp,
    GenerationParams,
    GenerationRequest,
    JudgedToken,
    NoDraftReason,
    PromptToken,
    ProposerStatistics,
    Resume,
    SessionContent,
    SessionInfo,
    SessionStatus,
    SpeculationStatistics,
    Started,
    Step,
    Token,
    TopLogprob,
    Verdict,
    Waiting,
)
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    LookaheadOutcome,
    OutputToken,
    PositionEvidence,
    PositionLogprobs,
    TokenOrigin,
    VerificationMode,
    coupled_guess,
)
from forethought.tier import (
    DraftDemand,
    DraftRound,
    DraftToVerify,
    EngineWork,
    EvidenceRound,
    HiddenStatesNeed,
    LookaheadCounts,
    ModelInfo,
    OrchestratorLoad,
    PassCost,
    PrefillProgress,
    RoundTimings,
    SessionOpen,
    SessionOpened,
    SpeculateRound,
    TierLoad,
    VerifyRound,
)

MODEL = ModelInfo(
    "name",
    "model",
    "vocabulary",
    49_152,
    8192,
    "float32",
    "cuda:1",
    16,
    (PassCost(1, 2**40), PassCost(2, 2**41)),
    "weights",
    3,
    HiddenStatesNeed("target", 2),
)
LOAD = TierLoad(1, 2**40, 3)
WORK = EngineWork(2**41, 2**40, 2**42, 2**43, 2**44, 5, 6, 7, 8)
ORCHESTRATOR_LOAD = OrchestratorLoad(2**40, 2, 3, 2**41, 2**42, DraftDemand(2**43, 2**44))
TIMINGS = RoundTimings(2**40, 2**41, 2**42, 4, 5, 2**39)
LOOKAHEAD = LookaheadCounts(2**40, 2**41, 2**42)
SAMPLING = SamplingParams(0.1, 2, 0.3, 0.4, 1.5, 2**64 - 1)

OPEN = SessionOpen(
    "session",
    [1, 49_151, 1],
    SAMPLING,
    "vocabulary",
    "model",
    VerificationMode.COUPLED,
    "tenant",
    128,
    True,
)
PREFILL = PrefillProgress(1, 2)
OPENED = SessionOpened(MODEL, 5)
HIDDEN_ROWS = np.array([[0.5, -0.25], [65504, 2**-24]], dtype=np.float16)
SPECULATE = SpeculateRound(2**40, 8000, [6, 7], 8, HiddenStates(7997, HIDDEN_ROWS))
DRAFT = DraftRound(
    2**40,
    8000,
    Draft(
        (
            DraftedToken(9, [8, 9], np.array([0.75, 0.25])),
            DraftedToken(10, [10], np.array([1.0])),
            coupled_guess(11),
        ),
        "proposer",
        LookaheadOutcome.MISS,
        3,
    ),
    TIMINGS,
)
VERIFY = VerifyRound(
    2**40,
    8000,
    [6, 7],
    [DraftToVerify(9, [8, 9]), DraftToVerify(10, [10])],
    num_logprobs=20,
    wants_hidden_states=True,
    next_is_plain=True,
)
EVIDENCE = EvidenceRound(
    2**40,
    8000,
    Evidence(
        (
            PositionEvidence(
                np.array([0.5, 0.125]),
                0.375,
                11,
                0.25,
                8,
                PositionLogprobs([-1.5, -2.5], -3.5, [8, 9], [-0.25, -0.75]),
            ),
            PositionEvidence(np.array([]), 1.0, 12, 0.0625, 13),
        ),
        HiddenStates(7999, HIDDEN_ROWS),
    ),
    TIMINGS,
)

PARAMS = GenerationParams(
    max_tokens=1,
    temperature=0.1,
    top_k=2,
    top_p=0.3,
    min_p=0.4,
    repetition_penalty=1.5,
    seed=2**64 - 1,
    stop=("one", "two"),
    stop_token_ids=(3, 4),
    ignore_eos=True,
    logprobs=5,
    num_speculative_tokens=6,
    verification_mode=VerificationMode.BLOCK,
    prediction="predicted",
    prompt_logprobs=7,
)
REQUESTS = [
    GenerationRequest("text", PARAMS, "request", True, "tenant", True, "note"),
    GenerationRequest([1, 2], PARAMS, "request", True, "tenant", True),
    GenerationRequest(
        (ChatMessage("system", "be kind"), ChatMessage("user", "hello")),
        PARAMS,
        "request",
        True,
        "tenant",
        True,
    ),
    GenerationRequest(
        FollowUp("session", (ChatMessage("user", "and now?"),), True),
        PARAMS,
        "request",
        True,
        "tenant",
    ),
    GenerationRequest(
        Resume("session", 7), request_id="request", tenant="tenant", include_progress=True
    ),
]

STARTED = [
    Started("session", 2**64 - 1, 17, "model", mode, True, 16, SAMPLING)
    for mode in VerificationMode
]
TOKENS = [
    Token(
        1,
        2,
        "text",
        origin,
        0.25,
        0.75,
        -0.5,
        (TopLogprob(3, "top", -1.5), TopLogprob(4, "next", -2.5)),
    )
    for origin in TokenOrigin
]
PROMPT_TOKEN = PromptToken(5, 6, "text", -0.5, TOKENS[0].top_logprobs)
STEP = Step(
    round=2**40,
    position=18,
    drafted=(
        *(JudgedToken(19, "drafted", 0.5, 0.75, verdict) for verdict in Verdict),
        JudgedToken(20, "coupled", None, 0.75, Verdict.ACCEPTED),
    ),
    final=OutputToken(20, TokenOrigin.RECOVERED, None, 0.125),
    final_text="final",
    speculation_ns=2**41,
    verification_ns=2**42,
    rejection_ns=2**43,
    proposer="proposer",
    lookahead=LookaheadOutcome.HIT,
    draft_timings=TIMINGS,
    target_timings=RoundTimings(2**30, 2**31, 2**32, 6, 7, 2**29),
)
WAITING = Waiting(1, 2, is_target_lost=True)
FINISHED = [
    Finished(
        reason=reason,
        num_prompt_tokens=21,
        num_output_tokens=22,
        speculation=SpeculationStatistics(
            23,
            24,
            25,
            (26, 27),
            28,
            2**41,
            2**42,
            2**43,
            (ProposerStatistics("one", 1, 2, 3), ProposerStatistics("two", 4, 5, 6)),
            LOOKAHEAD,
            no_draft_reason,
            "detail",
        ),
        time_to_first_token_ns=2**44,
        total_ns=2**45,
        matched_stop="stop",
        matched_stop_token_id=29,
        is_durable=True,
    )
    for reason in FinishReason
    for no_draft_reason in NoDraftReason
]

SESSIONS = [
    SessionContent(SessionInfo("session", status, 1, 2, 3, 2**41, 2**42), (4, 5), (6,), "note")
    for status in SessionStatus
]
