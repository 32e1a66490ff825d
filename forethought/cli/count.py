"""`forethought count`: a draft made of counts, from texts that the target has written."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console

from forethought.cli.failure import in_flags, print_failure
from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.corpus import Corpus, CorpusError, read_corpus
from forethought.counts.file import Counts, write_counts
from forethought.counts.replay import replay
from forethought.counts.table import MAX_CONTEXT
from forethought.errors import ForethoughtError
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

_DEFAULTS = BuildOptions()
_LEFT_OUT_EVERY = 20
_NUM_SPECULATIVE_TOKENS = 4
_MIN_PROBS = (0.2, 0.3, 0.4, 0.5, 0.6)


def count(
    data: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            metavar="DATA...",
            help="Texts of the target: folders of .npz files as `forethought distill` writes "
            "them, such files, or .npy files of token ids.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, metavar="FILE", help="File to write.")],
    model: Annotated[
        str,
        typer.Option(metavar="REF", help="The target, or any model with its tokenizer."),
    ] = DEFAULT_MODEL,
    max_context: Annotated[
        int,
        typer.Option(min=1, max=MAX_CONTEXT, metavar="N", help="Longest context, tokens."),
    ] = _DEFAULTS.max_context,
    min_count: Annotated[
        int, typer.Option(min=1, metavar="N", help="Least occurrences of a context.")
    ] = _DEFAULTS.min_count,
    max_contexts: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Most contexts to keep, some 40 bytes each."),
    ] = _DEFAULTS.max_contexts,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help=f"First count without every {_LEFT_OUT_EVERY}th text, and say what drafts of "
            f"{_NUM_SPECULATIVE_TOKENS} tokens would have guessed right in these.",
        ),
    ] = False,
) -> None:
    """Count what follows which tokens in texts that the target has written, for the draft tier's
    proposer `counts`. Takes seconds, no GPU and no torch.

    Example: `forethought count distilled/data --out target.counts --evaluate`
    """
    options = BuildOptions(max_context=max_context, min_count=min_count, max_contexts=max_contexts)
    console = Console(stderr=True)
    try:
        tokenizer = load_tokenizer(resolve(model, with_weights=False))
        corpus = read_corpus(data)
        _check_vocabulary(corpus, tokenizer)
        if evaluate:
            _print_evaluation(corpus, tokenizer.vocab_size, options)
        started = perf_counter()
        table = build_table(corpus, tokenizer.vocab_size, options)
        seconds = perf_counter() - started
        num_tokens = corpus.num_answer_tokens
        num_bytes = _write(out, Counts(table, tokenizer.fingerprint, num_tokens))
    except ForethoughtError as error:
        print_failure(console, in_flags(error))
        raise typer.Exit(1) from error
    typer.echo(
        f"{out}: {len(table):,} contexts of up to {table.max_context} tokens, "
        f"{num_bytes / 1e6:.1f} MB, from {num_tokens:,} tokens in {seconds:.1f} s"
    )


def _write(path: Path, counts: Counts) -> int:
    try:
        return write_counts(path, counts)
    except OSError as error:
        raise CorpusError(f"--out {path}: {error.strerror}") from error


def _check_vocabulary(corpus: Corpus, tokenizer: TextTokenizer) -> None:
    largest = int(corpus.token_ids.max())
    if largest >= tokenizer.vocab_size:
        raise CorpusError(
            f"the texts hold the token id {largest:,}, and {tokenizer.name} has "
            f"{tokenizer.vocab_size:,} tokens: they are another model's"
        )


def _print_evaluation(corpus: Corpus, vocab_size: int, options: BuildOptions) -> None:
    counted, left_out = corpus.split(_LEFT_OUT_EVERY)
    if not len(left_out):
        raise CorpusError(f"--evaluate needs {_LEFT_OUT_EVERY} texts or more")
    table = build_table(counted, vocab_size, options)
    typer.echo("least probability  drafted  accepted  tokens/round")
    for min_prob in _MIN_PROBS:

        def draft(text: Sequence[int], least: float = min_prob) -> Sequence[int]:
            return table.continuation(text, _NUM_SPECULATIVE_TOKENS, least)

        found = replay(left_out, draft)
        accepted = f"{found.acceptance_rate or 0:.0%}"
        typer.echo(
            f"{min_prob:17g}  {found.num_draft_tokens:7,}  {accepted:>8}  "
            f"{found.mean_acceptance_length or 0:12.3f}"
        )
