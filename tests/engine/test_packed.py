"""A pass over parts of many sequences gives each what it would get alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from forethought.engine.cache.block_pool import BlockPool
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.lean.native_steps import NativeSteps
from forethought.engine.lean.torch_steps import TorchSteps
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import SequencePart, pack
from forethought.models.files.reference import ModelFiles
from tests.tiny import write_tiny_model

VOCAB_SIZE, MAX_LEN, NUM_BLOCKS = 16, 320, 64
ENGINES = {"kernels": NativeSteps, "torch": TorchSteps, "transformers": None}


def test_places_and_slots_follow_from_where_a_part_stands():
    packed = pack(
        [
            SequencePart([7, 8], 15, (3, 5), 2),
            SequencePart([9], 0, (1,), 0),
            SequencePart([4, 5, 6], 30, (2, 4, 6), 1),
        ]
    )
    assert packed.token_ids == [7, 8, 9, 4, 5, 6]
    assert packed.positions.tolist() == [15, 16, 0, 30, 31, 32]
    assert packed.slots.tolist() == [63, 80, 16, 78, 79, 96]
    assert packed.starts.tolist() == [0, 2, 3, 6]
    assert packed.tables.tolist() == [[3, 5, 0], [1, 0, 0], [2, 4, 6]]
    assert packed.logit_rows.tolist() == [0, 1, 5]
    assert not packed.scores_all


@dataclass(frozen=True)
class Move:
    """What one of the sequences does in a pass."""

    which: int
    rewind: int
    committed: Sequence[int]
    guesses: Sequence[int]
    chunk: int  # most tokens of it in this pass


TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=6)
LONG = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=20, max_size=60)
MOVES = st.lists(
    st.lists(
        st.builds(
            Move,
            which=st.integers(0, 3),
            rewind=st.sampled_from([0, 0, 0, 1, 3, 25]),
            committed=st.one_of(TOKENS, LONG),
            guesses=TOKENS,
            chunk=st.sampled_from([1, 4, 16, 33, 100]),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda move: move.which,
    ),
    max_size=6,
)


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    window = {"sliding_window": 20} if request.param == "mistral" else {}
    return write_tiny_model(
        tmp_path_factory.mktemp("packed"),
        architecture=request.param,
        vocab_size=VOCAB_SIZE,
        max_model_len=MAX_LEN,
        head_dim=16,
        **window,
    )


@pytest.fixture(scope="module", params=ENGINES)
def model(request: pytest.FixtureRequest, folder: Path) -> CausalModel:
    if request.param == "transformers":
        return TransformersModel(AutoModelForCausalLM.from_pretrained(folder).eval(), MAX_LEN)
    model = load_model(ModelFiles("tiny", folder, None), EngineOptions(device="cpu"))
    assert isinstance(model, LeanDecoder)
    assert model.backend.steps is NativeSteps
    model.backend = replace(model.backend, steps=ENGINES[request.param])
    return model


@pytest.fixture(scope="module")
def reference(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def logits_of(token_ids: Sequence[int], num_logits: int) -> torch.Tensor:
        return model(torch.tensor([token_ids]), use_cache=False).logits[0, -num_logits:]

    return logits_of


@settings(max_examples=25, deadline=None)
@given(passes=MOVES)
def test_whatever_shares_a_pass_logits_are_those_of_each_alone(model, reference, passes):
    model.allocate(NUM_BLOCKS)
    pool = BlockPool(NUM_BLOCKS)
    sequences = [CachedSequence(pool, VOCAB_SIZE, MAX_LEN) for _ in range(4)]
    for moves in passes:
        parts, expected = [], []
        for move in moves:
            sequence = sequences[move.which]
            kept = max(sequence.num_tokens - move.rewind, 0)
            sequence.commit(kept, ())
            sequence.extend([*move.committed, 1][: MAX_LEN - 10 - kept])
            if not sequence.block_ids:
                sequence.take_prefix()
            sequence.speculate(move.guesses)
            scored = len(move.guesses) + 1
            num_tokens = min(sequence.num_uncomputed, max(move.chunk, scored))
            is_last = num_tokens == sequence.num_uncomputed
            part = sequence.part(num_tokens, scored if is_last else 0)
            assert part is not None
            parts.append(part)
            if is_last:
                expected.append(reference([*sequence.token_ids, *move.guesses], scored))
        logits = model.forward(pack(parts))
        for move, part in zip(moves, parts, strict=True):
            sequences[move.which].computed(len(part.token_ids))
        wanted = torch.cat(expected) if expected else torch.empty(0, VOCAB_SIZE)
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)
        pool.check(sequence.block_ids for sequence in sequences)


def test_a_block_of_another_sequence_shows_in_the_logits(model, reference):
    """The twin that mixes up two tables is caught, so equality above means something."""
    model.allocate(NUM_BLOCKS)
    first, second = [1, 2, 3] * 6, [4, 5, 6] * 6
    model.forward(pack([SequencePart(first, 0, (0, 1), 0), SequencePart(second, 0, (2, 3), 0)]))
    right = model.forward(pack([SequencePart([7], 18, (0, 1), 1)]))
    wrong = model.forward(pack([SequencePart([7], 18, (2, 1), 1)]))
    torch.testing.assert_close(right, reference([*first, 7], 1), atol=1e-4, rtol=1e-4)
    assert (wrong - right).abs().max() > 0.01
