"""`forethought probe`: does a running deployment say the same with speculation as without?"""

import asyncio
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from forethought.bench.prompts import PromptFileError
from forethought.cli.failure import print_failed_call
from forethought.cli.options import params as params_options
from forethought.cli.options.connection import Connection, with_connection_options
from forethought.cli.probe import options
from forethought.cli.probe.view import ProgressView, describe_sampling, print_report
from forethought.cli.signals import cancel_on_stop_signals
from forethought.errors import ForethoughtError
from forethought.generation import GenerationParams
from forethought.probe.document import write_probe
from forethought.probe.prompts import Prompt, load_prompts
from forethought.probe.report import make_report
from forethought.probe.sampling import Samples, Sampling, sample_both_arms
from forethought.probe.verdict import Criteria, Verdict, judge_answers

_UNKNOWN = 2  # as for a mistake on the command line: nothing is known of the deployment
_EXIT_CODES = {Verdict.LOSSLESS: 0, Verdict.BIASED: 1, Verdict.INCONCLUSIVE: _UNKNOWN}


@with_connection_options
def probe(
    *,
    connection: Connection,
    prompts: options.Prompts = None,
    raw: options.Raw = False,
    num_samples: options.NumSamples = 500,
    num_tokens: options.NumTokens = 6,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    mode: params_options.Mode = None,
    seed: options.Seed = None,
    concurrency: options.Concurrency = 8,
    timeout: options.Timeout = 60,
    temperature: params_options.Temperature = 1.0,
    top_k: params_options.TopK = 0,
    top_p: params_options.TopP = 1.0,
    alpha: options.Alpha = 0.01,
    max_unseen_bias: options.MaxUnseenBias = 0.25,
    as_json: options.AsJson = False,
) -> None:
    """Check that a running deployment is lossless: sample short answers with and without
    speculation, in turns, and compare how often each beginning occurs.

    Exits with 0 if they agree within what the samples can tell, which is stated; with 1 if they
    differ; with 2 if nothing can be said.

    Examples:

    - `forethought probe --address orchestrator:50050 --samples 4000 --concurrency 32`

    - `forethought probe --prompts questions.txt --top-k 4 --json > probe.json`

    - `forethought probe --mode block` for drafts that are judged otherwise than by default
    """
    sampling = Sampling(
        _load_prompts(prompts, raw=raw),
        GenerationParams(
            max_tokens=num_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=secrets.randbits(64) if seed is None else seed,
            ignore_eos=True,  # all answers are equally long
            num_speculative_tokens=num_speculative_tokens,
            verification_mode=mode,
        ),
        num_samples,
        concurrency,
        timeout,
    )
    criteria = Criteria(num_tokens, alpha, max_unseen_bias)
    samples = asyncio.run(_run(connection, sampling, Console(stderr=True)))
    judgement = judge_answers(samples.answers, criteria)
    report = make_report(judgement, samples)
    if as_json:
        write_probe(sys.stdout, report, _settings(connection.address, sampling, criteria))
    else:
        print_report(report, criteria, describe_sampling(connection.address, sampling))
    raise typer.Exit(_EXIT_CODES[judgement.verdict])


def _load_prompts(path: Path | None, *, raw: bool) -> list[Prompt]:
    try:
        return load_prompts(path, raw=raw)
    except PromptFileError as error:
        raise typer.BadParameter(str(error), param_hint="--prompts") from error


async def _run(connection: Connection, sampling: Sampling, console: Console) -> Samples:
    """Samples; a failure is printed and becomes the exit code."""
    view = ProgressView(console, sampling.num_requests)
    with cancel_on_stop_signals() as stop:
        try:
            async with connection.client() as client:
                with view.live():
                    return await sample_both_arms(client, sampling, view.answered)
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            raise typer.Exit(stop.exit_code) from None
        except ForethoughtError as error:
            print_failed_call(console, error, connection.address, began=view.num_answers > 0)
            raise typer.Exit(_UNKNOWN) from error


def _settings(address: str, sampling: Sampling, criteria: Criteria) -> dict[str, Any]:
    return {
        "address": address,
        "prompts": [
            prompt if isinstance(prompt, str) else prompt[-1].content for prompt in sampling.prompts
        ],
        "num_samples": sampling.num_samples,
        "concurrency": sampling.concurrency,
        "params": asdict(sampling.params),
        **asdict(criteria),
    }
