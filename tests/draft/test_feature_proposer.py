"""A feature draft computes what its equations say, and drafts from what the target said last.

The reference computes each guess afresh from the hidden states that are known: those of the target
at committed positions, its own guesses behind them. So nothing that was computed from a guess may
be left over in any round.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from pydantic import SecretStr

from draft_service.__main__ import attach, load_proposer
from draft_service.feature_proposer import FeatureProposer, FeatureSession
from draft_service.settings import DraftSettings
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.lean.feature_draft import FeatureDecoder, load_feature_draft
from forethought.engine.lean.native_steps import NativeSteps
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.loading.warm_up import FeatureTierModel, describe
from forethought.engine.model.packed import SequencePart, pack
from forethought.engine.rows.coupling import draw_coupled
from forethought.engine.rows.draws import draw_drafts
from forethought.engine.rows.filters import shape_logits
from forethought.errors import CachePositionMismatchError, ModelReferenceError
from forethought.models.feature_draft import FeatureDraftConfig
from forethought.models.files.reference import resolve
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.types import Draft, DraftedToken, VerificationMode
from forethought.tier import HiddenStatesNeed, ModelInfo, SessionOpen, SpeculateRound
from tests.draft.feature_reference import FeatureReference, write_feature_draft
from tests.stack import LIMITS

V, HIDDEN = 40, 32
GUESSABLE = [1, 2, 3, 5, 8, 13, 14, 20, 21, 25, 30, 31, 33, 34, 36, 37, 38, 39]
TARGET = ModelInfo("t", "m", "v", V, 512, "float32", "cpu", 16, (), "w", HIDDEN)
K, M, MAX_LEN = 4, 6, 48
PROMPT = [3, 0, 7, 5, 2, 4, 39, 11]
SHAPES = [
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0),
    SamplingParams(seed=3, temperature=1.4, repetition_penalty=1.3),
    SamplingParams(seed=4, top_k=5, top_p=0.9, min_p=0.05, repetition_penalty=0.8),
]
every_shape = pytest.mark.parametrize("sampling", SHAPES, ids=["plain", "greedy", "penalty", "all"])
MODES = [VerificationMode.REJECTION, VerificationMode.COUPLED]


def target_states(token_ids: Sequence[int], start: int, end: int) -> torch.Tensor:
    """[end - start, H] of a target: whatever follows from the tokens up to each position."""
    rows = [
        torch.randn(HIDDEN, generator=torch.Generator().manual_seed(hash(tuple(prefix)) % 2**31))
        for prefix in (token_ids[: position + 1] for position in range(start, end))
    ]
    return torch.stack(rows).half()


def states(token_ids: Sequence[int], start: int) -> HiddenStates:
    """Those before the last token, from `start` on."""
    return HiddenStates(start, target_states(token_ids, start, len(token_ids) - 1).numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("feature")
    # Heads of 16, which the C extension takes.
    return write_feature_draft(place, TARGET, GUESSABLE, num_heads=2, num_kv_heads=1)


@pytest.fixture(scope="module")
def reference(folder: Path) -> FeatureReference:
    return FeatureReference(folder)


def make_proposer(folder: Path, limits: EngineLimits = LIMITS) -> FeatureProposer:
    files = resolve(str(folder))
    model = load_feature_draft(files, "float32", MAX_LEN)
    info = replace(
        describe(model, files, "v", 16), hidden_states_need=HiddenStatesNeed("w", HIDDEN)
    )
    return FeatureProposer(FeatureTierModel(model, info, limits), M)


@dataclass
class Drafting:
    """Sessions of a draft, and what they should say."""

    proposer: FeatureProposer
    reference: FeatureReference

    def open(
        self,
        token_ids: Sequence[int],
        sampling: SamplingParams,
        mode: VerificationMode = VerificationMode.REJECTION,
    ) -> FeatureSession:
        return self.proposer.open(SessionOpen("s", token_ids, sampling, mode=mode))

    def expected(
        self,
        token_ids: Sequence[int],
        start: int,
        number: int,
        sampling: SamplingParams,
        mode: VerificationMode = VerificationMode.REJECTION,
    ) -> Draft:
        """K guesses from the hidden states at [start, ...)."""
        tokens, guesses = list(token_ids), []
        features = target_states(tokens, start, len(tokens) - 1)
        guessable = torch.tensor(GUESSABLE)
        for _ in range(K):
            fhat, logits = self.reference(tokens[start + 1 :], features)
            seen = [GUESSABLE.index(token) for token in tokens if token in GUESSABLE]
            probs = shape_logits(logits[None], sampling, [seen])
            if mode is VerificationMode.COUPLED:
                row = torch.zeros(1, V).index_copy_(1, guessable, probs)
                guesses += draw_coupled(row, [coupling_key(sampling.seed, len(tokens))])
            else:
                u = KeyedRandomness(sampling.seed, number).uniform(Stream.DRAFT, len(tokens))
                guess = draw_drafts(probs, M, [u])[0]
                support = [GUESSABLE[row] for row in guess.support_token_ids]
                guesses.append(DraftedToken(GUESSABLE[guess.token_id], support, guess.draft_probs))
            tokens.append(guesses[-1].token_id)
            features = torch.cat((features, fhat[None].half()))
        return Draft(tuple(guesses))


@pytest.fixture
async def drafting(folder: Path, reference: FeatureReference) -> AsyncIterator[Drafting]:
    proposer = make_proposer(folder)
    yield Drafting(proposer, reference)
    await proposer.close()
    proposer.engine.check()


async def propose(session: FeatureSession, request: SpeculateRound) -> Draft:
    draft, _ = await session.propose(request)
    return draft


def ask(
    number: int,
    token_ids: Sequence[int],
    num_new: int = 0,
    brought: HiddenStates | None = None,
    k: int = K,
) -> SpeculateRound:
    committed = token_ids[len(token_ids) - num_new :]
    return SpeculateRound(number, len(token_ids), committed, k, brought)


def assert_alike(draft: Draft, expected: Draft) -> None:
    assert draft.token_ids == expected.token_ids
    for token, other in zip(draft.tokens, expected.tokens, strict=True):
        assert token.support_token_ids == other.support_token_ids
        # Hidden states are halves, and which of two neighbours one becomes may differ.
        np.testing.assert_allclose(token.draft_probs, other.draft_probs, atol=2e-3)


@pytest.mark.parametrize(("length", "piece"), [(1, 1), (2, 1), (17, 3), (16, 100), (40, 100)])
def test_what_it_computes_is_what_the_equations_say(
    folder: Path, reference: FeatureReference, length: int, piece: int
):
    model = load_feature_draft(resolve(str(folder)), "float32")
    assert model.backend.steps is NativeSteps
    dice = Random(length)
    tokens = [dice.randrange(V) for _ in range(length)]
    features = torch.randn(length, HIDDEN, generator=torch.Generator().manual_seed(length))
    model.allocate(4)
    for start in range(0, length, piece):
        own = tokens[start : start + piece]
        part = SequencePart(own, start, range(4), 1, 1, features[start : start + piece])
        logits, fhat = model.forward_with_states(pack([part]))
    expected_fhat, expected = reference(tokens, features)
    torch.testing.assert_close(logits[0, : len(GUESSABLE)], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fhat[0], expected_fhat, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number_format", ["bfloat16", "int4"])
def test_fewer_bits_change_little(folder: Path, reference: FeatureReference, number_format: str):
    model = load_feature_draft(resolve(str(folder)), number_format)
    model.allocate(1)
    features = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(5))
    part = SequencePart([3, 2, 1, 0, 5], 0, (0,), 1, 1, features)
    fhat = model.forward_with_states(pack([part]))[1][0].float()
    expected = reference([3, 2, 1, 0, 5], features)[0]
    assert torch.cosine_similarity(fhat, expected, dim=0) > 0.97


@every_shape
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_accepted", [0, 2, K])
async def test_q_is_the_drafts_after_any_number_of_accepted_guesses(
    drafting: Drafting, sampling: SamplingParams, mode: VerificationMode, num_accepted: int
):
    session = drafting.open(PROMPT, sampling, mode)
    tokens, start = list(PROMPT), 2
    draft = await propose(session, ask(1, tokens, brought=states(tokens, start)))
    assert_alike(draft, drafting.expected(tokens, start, 1, sampling, mode))
    for number in range(2, 5):
        known = len(tokens) - 1
        tokens += [*draft.token_ids[:num_accepted], 11]
        request = ask(number, tokens, num_accepted + 1, states(tokens, known))
        draft = await propose(session, request)
        assert_alike(draft, drafting.expected(tokens, start, number, sampling, mode))


@pytest.mark.parametrize("start", [0, 1, 5, len(PROMPT) - 2])
async def test_a_tail_of_any_length_is_drafted_from(drafting: Drafting, start: int):
    session = drafting.open(PROMPT, SHAPES[0])
    draft = await propose(session, ask(1, PROMPT, brought=states(PROMPT, start)))
    assert_alike(draft, drafting.expected(PROMPT, start, 1, SHAPES[0]))


async def test_without_hidden_states_there_is_no_draft(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    assert await propose(session, ask(0, PROMPT)) == Draft((), "model")
    tokens = [*PROMPT, 3, 4]
    # The last but one is missing.
    short = HiddenStates(2, target_states(tokens, 2, len(tokens) - 2).numpy())
    assert len(await propose(session, ask(1, tokens, 2, short))) == 0
    rest = HiddenStates(short.end, target_states(tokens, short.end, len(tokens) - 1).numpy())
    draft = await propose(session, ask(2, tokens, 0, rest))
    assert_alike(draft, drafting.expected(tokens, 2, 2, SHAPES[0]))


async def test_behind_a_gap_it_begins_anew(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    await propose(session, ask(1, PROMPT, brought=states(PROMPT, 1)))
    tokens = [*PROMPT, *range(10, 20)]
    draft = await propose(session, ask(2, tokens, 10, states(tokens, 13)))
    assert_alike(draft, drafting.expected(tokens, 13, 2, SHAPES[0]))


async def test_a_round_that_is_asked_again_gets_the_same_draft(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    request = ask(1, PROMPT, brought=states(PROMPT, 1))
    first = await propose(session, request)
    assert_alike(await propose(session, request), first)
    assert_alike(await propose(session, ask(1, PROMPT)), first)


async def test_tokens_that_were_corrected_take_their_hidden_states_with_them(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    await propose(session, ask(1, PROMPT, brought=states(PROMPT, 1)))
    tokens = [*PROMPT[:-3], 30, 31, 33]
    assert len(await propose(session, ask(2, tokens, 3))) == 0
    draft = await propose(session, ask(3, tokens, 0, states(tokens, len(PROMPT) - 3)))
    assert_alike(draft, drafting.expected(tokens, 1, 3, SHAPES[0]))


async def test_a_session_longer_than_the_draft_goes_on_with_the_end_of_it(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    tokens, start, known = list(PROMPT), 0, 0
    for number in range(1, 20):
        if len(tokens) - 1 - start + K > MAX_LEN:
            start = len(tokens) - 1 - MAX_LEN // 4
        num_new = len(tokens) - 1 - known if number > 1 else 0
        draft = await propose(session, ask(number, tokens, num_new, states(tokens, known)))
        assert_alike(draft, drafting.expected(tokens, start, number, SHAPES[0]))
        known = len(tokens) - 1
        tokens += [*draft.token_ids[:2], 11]


async def test_no_more_hidden_states_are_kept_than_the_draft_looks_at(drafting: Drafting):
    tokens = PROMPT * 40
    session = drafting.open(tokens, SHAPES[0])
    # They never reach the end of the session, so nothing is drafted from them.
    for number, start in enumerate(range(0, 300, 10), 1):
        brought = HiddenStates(start, target_states(tokens, start, start + 10).numpy())
        assert not (await propose(session, ask(number, tokens, 0, brought))).tokens
    assert len(session._context._inputs._rows) <= 2 * MAX_LEN


async def test_a_position_beyond_what_is_known_is_refused(drafting: Drafting):
    session = drafting.open(PROMPT, SHAPES[0])
    with pytest.raises(CachePositionMismatchError):
        await propose(session, ask(1, [*PROMPT, 1, 2], 1))


async def test_sessions_side_by_side_share_nothing_and_survive_a_full_cache(
    folder: Path, reference: FeatureReference
):
    """Same tokens, other hidden states; blocks for little more than one of them."""
    proposer = make_proposer(folder, replace(LIMITS, num_blocks=4))
    drafting = Drafting(proposer, reference)

    async def play(start: int) -> None:
        session = drafting.open(PROMPT, SHAPES[0])
        tokens, known = list(PROMPT), start
        num_new = 0
        for number in range(1, 8):
            request = ask(number, tokens, num_new, states(tokens, known))
            draft = await propose(session, request)
            assert_alike(draft, drafting.expected(tokens, start, number, SHAPES[0]))
            known = len(tokens) - 1
            tokens += [*draft.token_ids[: number % K], 11]
            num_new = number % K + 1
        session.close()

    await asyncio.gather(*map(play, range(5)))
    await proposer.close()
    proposer.engine.check()


def test_a_folder_without_its_target_is_refused(tmp_path: Path):
    folder = write_feature_draft(tmp_path, TARGET, GUESSABLE)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"target"', '"aim"'))
    with pytest.raises(ModelReferenceError, match="target"):
        FeatureDraftConfig.read(resolve(str(folder)))


async def test_the_tier_knows_a_feature_draft_by_its_configuration(folder: Path):
    settings = DraftSettings(model=str(folder), min_prob=0.25)
    model = load_proposer(settings)
    assert isinstance(model, FeatureProposer)
    assert model.info.dtype == "int4-g32"
    assert model.info.hidden_states_need == HiddenStatesNeed("w", HIDDEN)
    assert (model.info.vocab_size, model.info.vocabulary_fingerprint) == (V, "v")
    assert model.info.pass_costs
    assert model.min_prob == 0.25
    store = settings.model_copy(update={"redis_url": SecretStr("redis://localhost:1")})
    assert attach(model, store) is None
    await model.close()


def test_it_runs_on_the_cpu_alone(folder: Path):
    options = EngineOptions(device="cuda:0")
    with pytest.raises(ModelReferenceError, match="runs on the CPU"):
        load_model(resolve(str(folder)), options)


def test_tokens_out_of_order_are_refused(tmp_path: Path):
    folder = write_feature_draft(tmp_path, TARGET, [3, 2, 5])
    with pytest.raises(ValueError, match="ascend"):
        load_feature_draft(resolve(str(folder)))


def test_the_model_is_a_feature_decoder_with_the_targets_tokens(folder: Path):
    model = load_feature_draft(resolve(str(folder)))
    assert isinstance(model, FeatureDecoder)
    assert (model.vocab_size, model.num_guessable) == (V, len(GUESSABLE))
