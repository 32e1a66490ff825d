"""The stages of a run, with their progress and results on the terminal."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from forethought.bench.plot import Line, Panel, Plot, write_plot
from forethought.bench.report import Column, build_table, number, percent, print_table, times
from forethought.distill.export.card import named_rows
from forethought.distill.export.speedup import PassCosts, Prediction, measure_costs, predict
from forethought.distill.pipeline import Draft, Run
from forethought.distill.training.evaluation import Acceptance, Evaluation
from forethought.distill.training.trainer import Point, Trainer
from forethought.engine.loading.loader import load_model

_SMOOTHING = 0.05
_NUM_CURVE_POINTS = 60
_MAX_K = 4


def run_stages(run: Run, console: Console) -> None:
    """All four, each from where it was left."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
    ) as progress:
        _generate(run, progress)
        reading = progress.add_task("reading", total=None, note="")
        vocabulary = run.vocabulary()
        corpus = run.corpus(vocabulary)
        trainer = run.trainer(vocabulary, corpus)
        progress.remove_task(reading)

        def write_draft(_: int) -> None:
            run.write_draft(run.folder / "draft", trainer, corpus, vocabulary)
            _draw(run.folder / "curve.svg", trainer.curve)

        _train(trainer, run.options.training.num_steps, progress, write_draft)
        task = progress.add_task("evaluating", total=None, note="")
        found = run.evaluate(
            trainer,
            corpus,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
        costs = measure_costs(
            load_model(run.source.files, run.options.engine), trainer.draft, _MAX_K
        )
    run.write_draft(run.folder / "draft", trainer, corpus, vocabulary, found)
    _report(run.folder / "evaluation.json", found, costs)
    console.print(f"{run.folder / 'draft'} is the draft.", highlight=False)


def _generate(run: Run, progress: Progress) -> None:
    wanted = run.options.data.num_tokens
    task = progress.add_task("generating", total=wanted, note="tokens")
    made = run.make_data(lambda count: progress.advance(task, count))
    progress.update(task, completed=made, total=max(wanted, made))
    if made > wanted:
        size = run.options.data.shard_size
        progress.console.print(
            f"{made:,} tokens for the {wanted:,} of --tokens: data is made in shards of {size} "
            "conversations.",
            highlight=False,
        )


def _train(
    trainer: Trainer[Draft],
    num_steps: int,
    progress: Progress,
    on_checkpoint: Callable[[int], None],
) -> None:
    task = progress.add_task("training", total=num_steps, completed=trainer.num_done, note="")
    shown: list[float] = []

    def show(point: Point) -> None:
        now = (point.loss, point.overlap, point.agreement)
        shown[:] = [
            old + _SMOOTHING * (new - old) for old, new in zip(shown or now, now, strict=True)
        ]
        loss, overlap, agreement = shown
        progress.update(
            task,
            completed=point.step + 1,
            note=f"loss {loss:.3f} · accepted {overlap:.1%} sampled, {agreement:.1%} greedy",
        )

    trainer.run(show, on_checkpoint)


def _draw(path: Path, curve: Sequence[Point]) -> None:
    """Loss and acceptance over the steps, in means."""
    size = max(-(-len(curve) // _NUM_CURVE_POINTS), 1)
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    x = [part[-1].step + 1 for part in parts]

    def line(label: str, name: str) -> Line:
        return Line(label, x, [fmean(getattr(point, name) for point in part) for part in parts])

    panels = [
        Panel("loss of the first drafted token", "nats", [line("loss", "loss")]),
        Panel(
            "accepted, on training batches",
            "share",
            [line("sampled", "overlap"), line("greedy", "agreement")],
        ),
    ]
    write_plot(path, Plot("training", "steps", panels, is_curve=True))


def _report(path: Path, found: Evaluation, costs: PassCosts) -> None:
    """Writes the numbers down and shows them."""
    # A draft that does not feed back was asked once: all its positions are alike.
    positions = (list(found.by_position) + [found.by_position[-1]] * _MAX_K)[:_MAX_K]
    sampled = predict([each.overlap for each in positions], costs)
    greedy = predict([each.agreement for each in positions], costs)
    document = {
        **asdict(found),
        "costs": asdict(costs),
        "predicted": {
            "temperature_1": [asdict(each) for each in sampled],
            "temperature_0": [asdict(each) for each in greedy],
        },
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    print_table(_acceptance_table(found))
    print_table(_prediction_table(sampled, greedy))


def _acceptance_table(found: Evaluation) -> Table:
    columns: list[Column[tuple[str, Acceptance]]] = [
        Column("held-out answers", lambda row: row[0], is_number=False),
        Column("sampled", lambda row: percent(row[1].overlap)),
        Column("greedy", lambda row: percent(row[1].agreement)),
        Column("tokens", lambda row: f"{row[1].num_tokens:,}"),
    ]
    return build_table(columns, named_rows(found))


def _prediction_table(sampled: Sequence[Prediction], greedy: Sequence[Prediction]) -> Table:
    columns: list[Column[tuple[Prediction, Prediction]]] = [
        Column("K", lambda row: str(row[0].num_speculative_tokens)),
        Column("tokens/round\nsampled", lambda row: number(row[0].tokens_per_round, 2)),
        Column("predicted\nspeed-up", lambda row: times(row[0].speed_up)),
        Column("tokens/round\ngreedy", lambda row: number(row[1].tokens_per_round, 2)),
        Column("predicted\nspeed-up", lambda row: times(row[1].speed_up)),
    ]
    return build_table(columns, list(zip(sampled, greedy, strict=True)))
