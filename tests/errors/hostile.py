"""Strategies for messages that no friend would send."""

from math import inf, nan
from typing import Any

from hypothesis import strategies as st

from forethought.v1 import common_pb2, draft_pb2, generation_pb2, target_pb2

UINT32 = st.sampled_from([0, 1, 2, 3, 4, 11, 12, 255, 256, 257, 2**31, 2**32 - 1])
UINT64 = st.sampled_from([0, 1, 2, 2**31, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
DOUBLE = st.sampled_from([nan, inf, -inf, -1.0, -0.0, 0.0, 1e-30, 0.5, 1.0, 1e308])
# Values that pass the checks, so that what is behind them is reached.
TOKEN_IDS = st.lists(st.integers(0, 11), max_size=6) | st.lists(UINT32, max_size=6)
SEED = UINT64
MODE = st.sampled_from([0, 3, 4, -1, 2**31 - 1, -(2**31)])
TEXT = st.text(max_size=20) | st.text("abc </s>", max_size=20)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _message(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages of a kind; a field that is drawn as None is not set."""
    return st.fixed_dictionaries(fields).map(
        lambda drawn: kind(**{name: value for name, value in drawn.items() if value is not None})
    )


def _mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 5).flatmap(lambda die: good if die else bad)


SAMPLING = _message(
    common_pb2.SamplingParams,
    temperature=_mostly(st.sampled_from([0.0, 5e-324, 0.7, 1.0, 100.0]), DOUBLE),
    top_k=_mostly(st.sampled_from([0, 1, 5, 2**32 - 1]), UINT32),
    top_p=_mostly(st.sampled_from([1e-30, 0.5, 1.0]), DOUBLE),
    min_p=_mostly(st.sampled_from([0.0, 5e-324, 0.5, 1.0]), DOUBLE),
    repetition_penalty=_mostly(st.sampled_from([0.01, 0.5, 1.0, 100.0]), DOUBLE),
    seed=SEED,
)
OPEN = _message(
    common_pb2.SessionOpen,
    session_id=_mostly(st.just("s"), st.text(max_size=200)),
    token_ids=_mostly(st.lists(st.integers(0, 11), min_size=1, max_size=6), TOKEN_IDS),
    sampling=_mostly(SAMPLING, st.none()),
    vocabulary_fingerprint=_mostly(st.just(""), st.text(max_size=2000)),
    model_fingerprint=_mostly(st.just(""), st.text(max_size=2000)),
    verification_mode=_mostly(st.sampled_from([0, 1, 2, 3]), MODE),
    tenant=_mostly(st.sampled_from(["", "t"]), st.text(max_size=200)),
    num_prompt_hidden_states=_mostly(st.sampled_from([0, 2]), UINT32),
)
_POSITION = _mostly(st.integers(1, 8), UINT32)
_COMMITTED = _mostly(st.lists(st.integers(0, 11), max_size=3), TOKEN_IDS)

_HIDDEN_STATES = _message(
    common_pb2.HiddenStates,
    first_position=_mostly(st.integers(0, 4), UINT32),
    num_positions=_mostly(st.integers(1, 3), UINT32),
    hidden_size=_mostly(st.sampled_from([32]), UINT32),
    element_type=_mostly(st.just(common_pb2.ELEMENT_TYPE_FLOAT16), st.sampled_from([0, 7, -1])),
    data=_mostly(
        st.integers(1, 3).map(lambda num: b"\x00\x3c" * 32 * num), st.binary(max_size=200)
    ),
)

SPECULATE = st.one_of(
    OPEN.map(lambda message: draft_pb2.SpeculateRequest(open=message)),
    _message(
        draft_pb2.SpeculateRound,
        round=UINT64,
        position=_POSITION,
        committed_token_ids=_COMMITTED,
        num_speculative_tokens=_mostly(st.integers(0, 8), UINT32),
        hidden_states=_maybe(_HIDDEN_STATES),
    ).map(lambda message: draft_pb2.SpeculateRequest(round=message)),
    st.just(draft_pb2.SpeculateRequest()),
)

_GOOD_DRAFT = st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True).map(
    lambda ids: target_pb2.DraftToVerify(token_id=ids[0], support_token_ids=ids)
)
_BAD_DRAFT = _message(
    target_pb2.DraftToVerify,
    token_id=UINT32,
    support_token_ids=TOKEN_IDS | st.just(range(300)),
)
VERIFY = st.one_of(
    OPEN.map(lambda message: target_pb2.VerifyRequest(open=message)),
    _message(
        target_pb2.VerifyRound,
        round=UINT64,
        position=_POSITION,
        committed_token_ids=_COMMITTED,
        drafts=st.lists(_mostly(_GOOD_DRAFT, _BAD_DRAFT), max_size=10),
        num_logprobs=_maybe(_mostly(st.integers(0, 20), UINT32)),
        wants_hidden_states=st.booleans(),
        next_is_plain=st.booleans(),
    ).map(lambda message: target_pb2.VerifyRequest(round=message)),
    st.just(target_pb2.VerifyRequest()),
)

_CONVERSATION = _message(
    generation_pb2.Conversation,
    messages=st.lists(_message(generation_pb2.ChatMessage, role=TEXT, content=TEXT), max_size=3),
)
_PARAMS = _message(
    generation_pb2.GenerationParams,
    max_tokens=_maybe(_mostly(st.integers(1, 4), UINT32)),
    temperature=_maybe(_mostly(st.sampled_from([0.0, 5e-324, 0.7, 100.0]), DOUBLE)),
    top_k=_maybe(_mostly(st.sampled_from([0, 1, 5, 2**32 - 1]), UINT32)),
    top_p=_maybe(_mostly(st.sampled_from([1e-30, 0.5, 1.0]), DOUBLE)),
    min_p=_maybe(_mostly(st.sampled_from([0.0, 0.5, 1.0]), DOUBLE)),
    repetition_penalty=_maybe(_mostly(st.sampled_from([0.01, 0.5, 100.0]), DOUBLE)),
    seed=_maybe(SEED),
    stop=_mostly(st.lists(st.text("abcd ", min_size=1, max_size=3), max_size=3), st.lists(TEXT)),
    stop_token_ids=_mostly(st.lists(st.integers(0, 11), max_size=3), TOKEN_IDS),
    ignore_eos=st.booleans(),
    logprobs=_maybe(_mostly(st.integers(0, 20), UINT32)),
    num_speculative_tokens=_maybe(_mostly(st.integers(0, 8), UINT32)),
    verification_mode=_mostly(st.sampled_from([0, 1, 2, 3]), MODE),
)
GENERATE = st.one_of(
    _message(
        generation_pb2.GenerateRequest,
        request_id=_mostly(st.just(""), st.text(max_size=200)),
        tenant=_mostly(st.sampled_from(["", "t"]), st.text(max_size=200)),
        params=_mostly(_PARAMS, st.none()),
        include_steps=st.booleans(),
        **{kind: prompt},
    )
    for kind, prompt in (
        ("text", TEXT),
        ("token_ids", _message(generation_pb2.TokenIds, token_ids=TOKEN_IDS)),
        ("conversation", _CONVERSATION),
        ("text", st.none()),
    )
)
TOKENIZE = st.one_of(
    TEXT.map(lambda text: generation_pb2.TokenizeRequest(text=text)),
    _CONVERSATION.map(lambda turns: generation_pb2.TokenizeRequest(conversation=turns)),
    st.just(generation_pb2.TokenizeRequest()),
)
DETOKENIZE = _message(generation_pb2.DetokenizeRequest, token_ids=TOKEN_IDS)


@st.composite
def mangled(draw: st.DrawFn, messages: st.SearchStrategy[Any]) -> bytes:
    """Bytes that are random, or once were a message."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=40))
    data = bytearray(draw(messages).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])
