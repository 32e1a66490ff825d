"""The stages of `forethought distill` in their order, each from where it was left."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from forethought.distill.data.generator import DataOptions
from forethought.distill.data.make_data import make_data
from forethought.distill.data.prompts import Prompts
from forethought.distill.data.shards import ShardFolder
from forethought.distill.drafts.feature_draft import FeatureDraft, make_feature_draft
from forethought.distill.drafts.fitting import fit_outputs
from forethought.distill.drafts.llama_draft import LlamaDraft
from forethought.distill.drafts.target_weights import TargetWeights
from forethought.distill.export.card import Facts, write_card
from forethought.distill.export.folder import Source, write_folder
from forethought.distill.samples.batches import Batches
from forethought.distill.samples.corpus import Corpus
from forethought.distill.samples.vocabulary import DraftVocabulary, expected_counts, most_frequent
from forethought.distill.training.evaluation import Evaluation, evaluate
from forethought.distill.training.trainer import Trainer, TrainOptions
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.errors import InvalidArgumentError
from forethought.models.files.reference import ModelFiles
from forethought.models.text.tokenizer import load_tokenizer

Draft = FeatureDraft | LlamaDraft


class Architecture(StrEnum):
    """Kinds of drafts."""

    FEATURE = "feature"
    LLAMA = "llama"


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """What is trained."""

    architecture: Architecture = Architecture.FEATURE
    draft_vocab_size: int = 8192
    """Tokens that it can say; 0 is all of the target's."""
    layers: Sequence[int] = (-1,)
    """Of the target: those that a llama draft is made of, or the one that a feature draft's layer
    begins as."""
    num_top: int = 32
    """Entries of the target's distributions that are trained on."""
    max_fitted: int = 300_000
    """Tokens that the start of a feature draft is solved from."""
    ridge: float = 1e-3
    held_out_every: int = 32
    """One sample in so many is for evaluation alone."""
    dtype: str = "bfloat16"
    """Compute format: bfloat16 or float32."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """Of a whole run."""

    texts: Sequence[Path] = ()
    """To be continued besides the target's own questions."""
    engine: EngineOptions = field(default_factory=lambda: EngineOptions(dtype="bfloat16"))
    data: DataOptions = field(default_factory=DataOptions)
    draft: DraftOptions = field(default_factory=DraftOptions)
    training: TrainOptions = field(default_factory=TrainOptions)
    hardware: str = ""
    """For the card, as `command` and `license` are."""
    command: str = "forethought distill"
    license: str = "other"


def _check_draft(options: DraftOptions, target: TargetWeights) -> None:
    """Refuses, before data is made, a draft that the target gives no parts for."""
    violations = {}
    num_layers, vocab_size = target.config.num_layers, target.config.vocab_size
    if not all(-num_layers <= index < num_layers for index in options.layers):
        violations["layers"] = f"the target has {num_layers}: 0 to {num_layers - 1}, or -1 and down"
    elif options.architecture is Architecture.FEATURE and len(options.layers) > 1:
        violations["layers"] = "a feature draft begins as one layer"
    if options.draft_vocab_size > vocab_size:
        violations["draft_vocab_size"] = f"the target has {vocab_size:,} tokens"
    if violations:
        raise InvalidArgumentError(violations)


class Run:
    """A target, a folder, and what has been made of the one in the other.

    Args:
        files: of the target.
        folder: where everything goes; a run that was interrupted there goes on.
        options: the same as when it began.

    Raises:
        ModelReferenceError: the target is of no family that drafts are made for.
        InvalidArgumentError: the folder holds a run with other options, or the target has no such
            layers or so many tokens.
    """

    def __init__(self, files: ModelFiles, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.source = Source(files, load_tokenizer(files), TargetWeights.open(files))
        _check_draft(options.draft, self.source.weights)
        self.shards = ShardFolder(folder)
        data = {name: value for name, value in asdict(options.data).items() if name != "num_tokens"}
        texts = [str(path) for path in options.texts]
        self._remember("data.json", {**data, "texts": texts, "target": self.source.names})

    def make_data(self, on_tokens: Callable[[int], None] = lambda _: None) -> int:
        """Stage (a); returns the number of tokens."""
        options = self.options
        prompts = Prompts(self.source.tokenizer, options.data.temperatures, options.texts)

        return make_data(
            self.shards,
            lambda: load_model(self.source.files, options.engine),
            prompts,
            options.data,
            on_tokens,
        )

    def vocabulary(self) -> DraftVocabulary:
        """What the draft can say."""
        size = self.source.weights.config.vocab_size
        wanted = self.options.draft.draft_vocab_size
        if not 0 < wanted < size:
            return DraftVocabulary.of(torch.arange(size), size)
        counts = expected_counts(self.shards.samples(), self.shards.outputs(), size)
        return most_frequent(counts, wanted, self.source.tokenizer.eos_token_ids)

    def corpus(self, vocabulary: DraftVocabulary) -> Corpus:
        """The data in memory."""
        return Corpus.read(self.shards, vocabulary, self.options.draft.num_top)

    def trainer(self, vocabulary: DraftVocabulary, corpus: Corpus) -> Trainer[Draft]:
        """Stage (b): a draft with what training has made of it so far."""
        options = self.options
        training = asdict(options.training)
        # It may be changed for a while: see `Schedule`.
        del training["num_steps"]
        train = {
            "draft": asdict(options.draft),
            "training": training,
            "num_tokens": corpus.samples.num_tokens,
        }
        self._remember("training.json", train)
        torch.manual_seed(options.draft.seed)
        numbers, _ = corpus.split(self.options.draft.held_out_every)
        try:
            batches = Batches(corpus, numbers, options.training.batches)
        except ValueError as error:
            raise InvalidArgumentError({"tokens": f"too few to train on: {error}"}) from error
        draft = self.new_draft(vocabulary)
        checkpoint = self.folder / "checkpoint.pt"
        if isinstance(draft, FeatureDraft) and not checkpoint.exists():
            fit_outputs(draft, corpus, numbers, options.draft.max_fitted, options.draft.ridge)
        return Trainer(draft, corpus, batches, options.training, checkpoint)

    def evaluate(
        self,
        trainer: Trainer[Draft],
        corpus: Corpus,
        on_rows: Callable[[int, int], None] = lambda *_: None,
    ) -> Evaluation:
        """Stage (c)."""
        _, held_out = corpus.split(self.options.draft.held_out_every)
        return evaluate(trainer.draft, corpus, held_out, on_rows=on_rows)

    def write_draft(
        self,
        folder: Path,
        trainer: Trainer[Draft],
        corpus: Corpus,
        vocabulary: DraftVocabulary,
        evaluation: Evaluation | None = None,
    ) -> None:
        """Stage (d), and before that a look at what there is so far."""
        options, draft = self.options, trainer.draft
        batches = options.training.batches
        facts = Facts(
            target=self.source.files.reference,
            architecture=str(options.draft.architecture),
            num_parameters=sum(each.numel() for each in draft.tensors().values()),
            num_trained=sum(each.numel() for each in draft.parameters()),
            draft_vocab_size=len(vocabulary),
            vocab_size=self.source.weights.config.vocab_size,
            num_samples=corpus.samples.num_samples,
            num_tokens=corpus.samples.num_tokens,
            num_steps=trainer.num_done,
            tokens_each=batches.num_rows * batches.row_len,
            seconds=trainer.seconds,
            hardware=options.hardware,
            command=options.command,
            license=options.license,
        )
        write_folder(folder, draft, vocabulary, self.source, write_card(facts, evaluation))

    def new_draft(self, vocabulary: DraftVocabulary) -> Draft:
        """As training begins with it, but for the fit of a feature draft's fc."""
        options, target = self.options.draft, self.source.weights
        dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[options.dtype]
        if options.architecture is Architecture.LLAMA:
            return LlamaDraft(target, vocabulary, options.layers, dtype)
        return make_feature_draft(target, vocabulary, dtype, options.layers[0])

    def _remember(self, name: str, settings: dict[str, Any]) -> None:
        """Writes settings down, or compares them with those that the run began with."""
        text = json.dumps(settings, indent=2, default=str) + "\n"
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            raise InvalidArgumentError(
                {"out": f"{self.folder} holds a run with other settings, see {path.name} there"}
            )
