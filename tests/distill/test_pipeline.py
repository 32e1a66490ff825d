"""Whole runs on a tiny target."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from forethought.distill.drafts.feature_draft import FeatureDraft
from forethought.distill.drafts.fitting import fit_outputs
from forethought.distill.pipeline import Architecture, Run
from forethought.distill.samples.batches import make_batch, windows
from forethought.distill.training.evaluation import Evaluation, evaluate
from forethought.distill.training.trainer import Point, Trainer, TrainOptions
from forethought.engine.lean.feature_draft import load_feature_draft
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.packed import SequencePart, pack
from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.files.reference import resolve
from tests.distill.conftest import options
from tests.stack import loaded

Trained = tuple[Run, Trainer, Evaluation, Evaluation]
"""A run, its training, and what the draft was worth before and after."""


def copied(data_folder: Path, folder: Path) -> Path:
    shutil.copytree(data_folder, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module", params=list(Architecture))
def trained(
    request: pytest.FixtureRequest,
    target_folder: Path,
    data_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    folder = copied(data_folder, tmp_path_factory.mktemp("trained"))
    run = Run(resolve(str(target_folder)), folder, options(request.param))
    vocabulary = run.vocabulary()
    corpus = run.corpus(vocabulary)
    trainer = run.trainer(vocabulary, corpus)
    before = run.evaluate(trainer, corpus)
    trainer.run()
    after = run.evaluate(trainer, corpus)
    run.write_draft(folder / "draft", trainer, corpus, vocabulary, after)
    return run, trainer, before, after


def test_training_improves_acceptance_on_held_out_texts(trained: Trained):
    # A feature draft is solved for before, and good already.
    _, _, before, after = trained
    for then, now in zip(before.by_position, after.by_position, strict=True):
        assert now.overlap > then.overlap + 0.002


def test_a_feature_draft_that_is_solved_for_beats_one_that_is_not(
    target_folder: Path, data_folder: Path
):
    run = Run(resolve(str(target_folder)), data_folder, options(Architecture.FEATURE))
    vocabulary = run.vocabulary()
    corpus = run.corpus(vocabulary)
    numbers, held_out = corpus.split(4)
    draft = run.new_draft(vocabulary)
    assert isinstance(draft, FeatureDraft)
    overlaps = [evaluate(draft, corpus, held_out, 1).by_position[0].overlap]
    fit_outputs(draft, corpus, numbers, max_tokens=10**6, ridge=1e-3)
    overlaps.append(evaluate(draft, corpus, held_out, 1).by_position[0].overlap)
    assert overlaps[1] > overlaps[0] + 0.1


def test_a_run_that_is_interrupted_ends_with_the_same_weights(
    trained: Trained, target_folder: Path, data_folder: Path, tmp_path: Path
):
    whole = trained[1]
    run = Run(resolve(str(target_folder)), copied(data_folder, tmp_path), trained[0].options)
    vocabulary = run.vocabulary()
    corpus = run.corpus(vocabulary)

    class StoppedError(Exception):
        pass

    def interrupt(point: Point) -> None:
        if point.step == 13:
            raise StoppedError

    with pytest.raises(StoppedError):
        run.trainer(vocabulary, corpus).run(interrupt)
    resumed = run.trainer(vocabulary, corpus)
    assert resumed.num_done == 10
    resumed.run()
    weights = whole.draft.state_dict()
    assert all(torch.equal(weights[name], own) for name, own in resumed.draft.state_dict().items())
    assert resumed.curve == whole.curve


def test_a_run_does_not_go_on_with_other_settings(trained: Trained, target_folder: Path):
    run = trained[0]
    other = replace(run.options, training=replace(run.options.training, matrix_rate=0.5))
    changed = Run(resolve(str(target_folder)), run.folder, other)
    vocabulary = changed.vocabulary()
    with pytest.raises(InvalidArgumentError, match="other settings"):
        changed.trainer(vocabulary, changed.corpus(vocabulary))


def test_steps_do_not_depend_on_how_many_follow_until_the_last_stretch():
    short, long = (TrainOptions(num_steps=steps).schedule for steps in (100, 200))
    assert (short.decay_start, long.decay_start) == (60, 120)
    factors = [[each.factor(step) for step in range(each.num_steps)] for each in (short, long)]
    assert factors[0][:60] == factors[1][:60]
    assert factors[0][60:] == sorted(factors[0][60:], reverse=True)
    assert 0 < factors[0][-1] < 0.05


def test_the_number_of_steps_does_not_change_in_the_last_stretch(
    trained: Trained, target_folder: Path
):
    run = trained[0]
    more = replace(run.options, training=replace(run.options.training, num_steps=90))
    changed = Run(resolve(str(target_folder)), run.folder, more)
    vocabulary = changed.vocabulary()
    with pytest.raises(InvalidArgumentError, match="last stretch"):
        changed.trainer(vocabulary, changed.corpus(vocabulary))


@pytest.mark.parametrize("trained", [Architecture.FEATURE], indirect=True)
def test_a_feature_drafts_folder_is_what_the_card_says(trained: Trained):
    run, trainer, _, after = trained
    folder = run.folder / "draft"
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    assert config["model_type"] == "forethought_feature_draft"
    assert config["target"]["vocabulary_fingerprint"] == run.source.tokenizer.fingerprint
    num_rows, hidden = config["draft_vocab_size"], config["hidden_size"]
    assert tensors["token_ids"].dtype == torch.int32
    assert tensors["token_ids"].tolist() == sorted(tensors["token_ids"].tolist())
    assert tensors["embed_tokens.weight"].shape == (num_rows + 1, hidden)
    assert tensors["fc.weight"].shape == (hidden, 2 * hidden)
    expected = trainer.draft.state_dict()["layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(
        tensors["layers.0.mlp.up_proj.weight"].float(), expected, atol=1e-2, rtol=1e-2
    )
    assert f"{after.by_position[0].overlap:.3f}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("trained", [Architecture.FEATURE], indirect=True)
def test_the_engine_computes_of_a_feature_draft_what_was_trained(trained: Trained):
    run, trainer, _, _ = trained
    draft = load_feature_draft(resolve(str(run.folder / "draft")), "float32")
    corpus = run.corpus(run.vocabulary())
    index, segments = windows(corpus, np.array([0]), np.array([100]))
    with torch.no_grad():
        (hidden,) = trainer.draft.steps(corpus, make_batch(corpus, index[None], segments[None]), 1)
    tokens = corpus.samples.token_ids[index].tolist()
    features = corpus.features[torch.from_numpy(index) - 1]
    draft.allocate(16)
    blocks = range(-(-len(tokens) // 16))
    part = SequencePart(tokens, 0, blocks, len(tokens), inputs=features)
    logits = draft.forward(pack([part]))[:, : draft.num_guessable]
    torch.testing.assert_close(logits, hidden[0] @ trainer.draft.rows.T, atol=3e-2, rtol=1e-2)


@pytest.mark.parametrize("trained", [Architecture.LLAMA], indirect=True)
def test_the_draft_service_loads_a_llama_draft_that_computes_what_was_trained(trained: Trained):
    run, trainer, _, _ = trained
    draft = loaded(run.folder / "draft")
    assert draft.tokenizer.fingerprint == run.source.tokenizer.fingerprint
    corpus = run.corpus(run.vocabulary())
    index, segments = windows(corpus, np.array([0]), np.array([100]))
    batch = make_batch(corpus, index[None], segments[None])
    with torch.no_grad():
        (hidden,) = trainer.draft.steps(corpus, batch, 1)
    tokens = corpus.samples.token_ids[index].tolist()
    draft.model.allocate(16)
    part = SequencePart(tokens, 0, range(-(-len(tokens) // 16)), len(tokens))
    logits = draft.model.forward(pack([part]))
    said = run.vocabulary().token_ids.long()
    assert len(said) == 20
    expected = hidden[0] @ trainer.draft.rows.T
    torch.testing.assert_close(logits[:, said], expected, atol=2e-2, rtol=1e-2)
    assert logits.isfinite().sum() == expected.numel()  # nothing else can be said


@pytest.mark.parametrize("trained", [Architecture.LLAMA], indirect=True)
def test_a_llama_draft_with_a_part_of_the_vocabulary_is_refused_elsewhere_than_on_a_cpu(
    trained: Trained, monkeypatch
):
    monkeypatch.setattr("forethought.engine.loading.loader.choose_device", torch.device)
    with pytest.raises(ModelReferenceError, match="runs on the CPU, not on cuda"):
        load_model(resolve(str(trained[0].folder / "draft")), EngineOptions(device="cuda"))


def test_a_llama_draft_with_the_whole_vocabulary_is_a_model_like_any_other(
    target_folder: Path, data_folder: Path, tmp_path: Path
):
    usual = options(Architecture.LLAMA)
    whole = replace(usual, draft=replace(usual.draft, draft_vocab_size=0))
    run = Run(resolve(str(target_folder)), copied(data_folder, tmp_path), whole)
    vocabulary = run.vocabulary()
    corpus = run.corpus(vocabulary)
    run.write_draft(tmp_path / "draft", run.trainer(vocabulary, corpus), corpus, vocabulary)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "draft", dtype=torch.float32)
    tokens = [3, 1, 4, 1, 5]
    draft = loaded(tmp_path / "draft").model
    draft.allocate(1)
    logits = draft.forward(pack([SequencePart(tokens, 0, (0,), len(tokens))]))
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(logits, expected, atol=2e-2, rtol=1e-2)


def test_too_little_data_is_refused_in_words(
    target_folder: Path, data_folder: Path, tmp_path: Path
):
    usual = options(Architecture.FEATURE)
    batches = replace(usual.training.batches, row_len=4096)
    run = Run(
        resolve(str(target_folder)),
        copied(data_folder, tmp_path),
        replace(usual, training=replace(usual.training, batches=batches)),
    )
    vocabulary = run.vocabulary()
    with pytest.raises(InvalidArgumentError, match="too few to train on"):
        run.trainer(vocabulary, run.corpus(vocabulary))
