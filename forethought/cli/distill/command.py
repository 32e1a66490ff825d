"""`forethought distill`: data, training, evaluation, and the folder with the draft."""

import shlex
import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from forethought.bench.machine import Machine, describe_machine
from forethought.bench.plot import require_matplotlib
from forethought.cli.distill import options
from forethought.cli.failure import in_flags, print_failure
from forethought.cli.up import options as up_options
from forethought.errors import ForethoughtError, InvalidArgumentError
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.models.files.reference import resolve
from forethought.runtime.openmp import spin_briefly

if TYPE_CHECKING:
    from forethought.distill.pipeline import Options


def distill(
    *,
    target: up_options.Model = DEFAULT_MODEL,
    out: options.Out,
    architecture: options.Architecture = options.ArchitectureName.FEATURE,
    layers: options.Layers = "-1",
    draft_vocab_size: options.DraftVocabSize = 8192,
    license_: options.License = "other",
    tokens: options.Tokens = 500_000,
    texts: options.Texts = None,
    batch_size: options.BatchSize = 96,
    shard_size: options.ShardSize = 128,
    max_user: options.MaxUser = 96,
    max_answer: options.MaxAnswer = 256,
    dtype: options.Dtype = "bfloat16",
    steps: options.Steps = 1000,
    unroll: options.Unroll = 2,
    rows: options.Rows = 16,
    row_len: options.RowLen = 256,
    learning_rate: options.LearningRate = 5e-4,
    checkpoint_every: options.CheckpointEvery = 50,
    compute: options.Compute = options.ComputeName.BFLOAT16,
    device: up_options.Device = None,
    num_threads: up_options.NumThreads = None,
    seed: options.Seed = 0,
) -> None:
    """Make a draft for a target from the target alone: it writes its own training data, a small
    draft learns its distributions, and what the draft is worth is measured on held-out texts.

    An interrupted run goes on where it was, with the same result. OUT/draft is the draft,
    OUT/curve.svg the course of training, OUT/evaluation.json the numbers.

    Examples:

    - `forethought distill --out smollm2-draft`
    - `forethought distill --target my-model --architecture llama --layers 0,1,-1 --out my-draft`
    """
    console = Console(stderr=True)
    spin_briefly()
    try:
        require_matplotlib()
        # torch takes seconds to import; a wrong option should not.
        from forethought.cli.distill.stages import run_stages  # noqa: PLC0415
        from forethought.distill import pipeline  # noqa: PLC0415
        from forethought.distill.data.conversation import Lengths  # noqa: PLC0415
        from forethought.distill.data.generator import DataOptions  # noqa: PLC0415
        from forethought.distill.samples.batches import BatchOptions  # noqa: PLC0415
        from forethought.distill.training.trainer import TrainOptions  # noqa: PLC0415
        from forethought.engine.loading.loader import EngineOptions  # noqa: PLC0415

        settings: Options = pipeline.Options(
            texts=tuple(texts or ()),
            engine=EngineOptions(dtype, device or "auto", num_threads or 0),
            data=DataOptions(
                num_tokens=tokens,
                batch_size=batch_size,
                shard_size=shard_size,
                lengths=Lengths(max_user, max_answer),
                seed=seed,
            ),
            draft=pipeline.DraftOptions(
                architecture=pipeline.Architecture(architecture.value),
                draft_vocab_size=draft_vocab_size,
                layers=parse_layers(layers),
                dtype=compute.value,
                seed=seed,
            ),
            training=TrainOptions(
                num_steps=steps,
                num_unrolled=unroll,
                matrix_rate=learning_rate,
                vector_rate=learning_rate,
                checkpoint_every=checkpoint_every,
                batches=BatchOptions(rows, row_len, seed=seed),
            ),
            hardware=_describe(describe_machine()),
            command=shlex.join(["forethought", *sys.argv[1:]]),
            license=license_,
        )
        run_stages(pipeline.Run(resolve(target), out, settings), console)
    except ForethoughtError as error:
        print_failure(console, in_flags(error))
        raise typer.Exit(1) from error


def parse_layers(text: str) -> tuple[int, ...]:
    """Numbers of layers, separated by commas. Raises InvalidArgumentError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidArgumentError(
            {"layers": f"must be whole numbers with commas between them, not {text!r}"}
        ) from error


def _describe(machine: Machine) -> str:
    return f"{machine.num_cores} cores of {machine.cpu}"
