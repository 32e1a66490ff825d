"""What `forethought probe` shows: progress, a table of its tests, the verdict in words."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from forethought.bench.report import Column, build_table, print_table
from forethought.cli.views.tokens import probability, quoted
from forethought.probe.report import Deviation, Report, Speculation
from forethought.probe.sampling import Answer, Sampling
from forethought.probe.verdict import Criteria, Judgement, Obstacle, PrefixTest, Verdict

_STYLES = {
    Verdict.LOSSLESS: "bold green",
    Verdict.BIASED: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
_HINTS = {
    Obstacle.RARE.value: "more --samples, prompts with fewer ways to go on, or a lower --top-k",
    Obstacle.INSENSITIVE.value: "more --samples, or a larger --max-unseen-bias",
    Obstacle.SELDOM_DRAFTED.value: "prompts that are drafted for, or more --num-tokens",
}
_PREFIX_WIDTH = 44


class ProgressView:
    """A live bar on a terminal; nothing elsewhere."""

    def __init__(self, console: Console, num_requests: int) -> None:
        self.num_answers = 0
        self._num_draft_tokens = self._num_accepted_tokens = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("asking", total=num_requests)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Shows the bar as long as the context lasts."""
        with self._progress:
            yield

    def answered(self, answer: Answer) -> None:
        """One request was answered."""
        self.num_answers += 1
        self._num_draft_tokens += answer.speculation.num_draft_tokens
        self._num_accepted_tokens += answer.speculation.num_accepted_tokens
        counts = f"{self._num_draft_tokens:,} drafted, {self._num_accepted_tokens:,} accepted"
        self._progress.update(self._task, advance=1, description=counts)


def print_report(report: Report, criteria: Criteria, headline: str) -> None:
    """All of it to stdout, the verdict last."""
    judgement = report.judgement
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.print(headline)
    print_table(build_table(_test_columns(judgement), judgement.tests))
    if report.deviations:
        worst = judgement.worst
        out.print(f"most different first {_tokens(worst)} of answers to prompt {worst.prompt + 1}:")
        print_table(build_table(_deviation_columns(), report.deviations))
    out.print(_describe_speculation(report.speculation))
    for line in describe_verdict(judgement, criteria):
        out.print(line)


def describe_sampling(address: str, sampling: Sampling) -> str:
    """Who was asked what, and the seed that repeats it."""
    mode = sampling.params.verification_mode
    words = [
        address,
        f"{sampling.num_samples:,} answers of each arm to {_prompts(len(sampling.prompts))}",
        *([f"mode {mode.value}"] if mode is not None else []),
        f"seed {sampling.params.seed}",
    ]
    return " · ".join(words)


def describe_verdict(judgement: Judgement, criteria: Criteria) -> list[Text]:
    """The verdict, then what it is worth."""
    verdict, worst = judgement.verdict, judgement.worst
    if verdict is Verdict.INCONCLUSIVE:
        text = judgement.reason
        if hint := _HINTS.get(text):
            text += f" ({hint})"
    else:
        text = (
            f"least p-value {probability(worst.p_value)} in {len(judgement.tests)} tests "
            f"(prompt {worst.prompt + 1}, {_tokens(worst)}), "
            f"against a limit of {probability(judgement.alpha_per_test)}"
        )
    lines = [Text.assemble((verdict.value, _STYLES[verdict]), f": {text}")]
    sensitivities = judgement.sensitivities
    if verdict is not Verdict.LOSSLESS or not sensitivities:
        return lines
    ends = sensitivities[:1] if len(sensitivities) == 1 else [sensitivities[0], sensitivities[-1]]
    found = " and of ".join(
        f"{end.bias:.1%} at {end.num_tokens} tokens ({_prompts(end.num_prompts)})" for end in ends
    )
    return [
        *lines,
        Text(
            f"would have found, with probability {criteria.power:g}, a bias in total variation "
            f"of {found}"
        ),
    ]


def _describe_speculation(speculation: Speculation) -> str:
    line = (
        f"drafted {speculation.num_draft_tokens:,} tokens in {speculation.num_drafted_answers:,} "
        f"of {speculation.num_answers:,} speculative answers, "
        f"accepted {speculation.num_accepted_tokens:,}"
    )
    if speculation.num_draft_failures:
        line += f"; {speculation.num_draft_failures:,} rounds got no draft"
    return line


def _test_columns(judgement: Judgement) -> list[Column[PrefixTest]]:
    def remark(test: PrefixTest) -> str:
        if test.p_value < judgement.alpha_per_test:
            return "differs"
        return "" if test.obstacle is None else test.obstacle.value

    return [
        Column("prompt", lambda test: str(test.prompt + 1)),
        Column("first\ntokens", lambda test: str(test.num_tokens)),
        Column("cells", lambda test: str(len(test.comparison.cells))),
        Column("too\nrare", lambda test: f"{test.comparison.pooled_share:.1%}"),
        Column("p-value", lambda test: probability(test.p_value)),
        Column("finds a\nbias of", lambda test: f"{test.detectable_bias:.1%}"),
        Column("", remark, is_number=False),
    ]


def _deviation_columns() -> list[Column[Deviation]]:
    def name(deviation: Deviation) -> str:
        if not deviation.token_ids:
            return f"{deviation.num_prefixes:,} rare ones"
        return escape(quoted(deviation.text, _PREFIX_WIDTH))

    return [
        Column("prefix", name, is_number=False),
        Column("plain", lambda deviation: f"{deviation.plain:.2%}"),
        Column("speculative", lambda deviation: f"{deviation.speculative:.2%}"),
        Column("p-value", lambda deviation: probability(deviation.p_value)),
    ]


def _tokens(test: PrefixTest) -> str:
    return "token" if test.num_tokens == 1 else f"{test.num_tokens} tokens"


def _prompts(number: int) -> str:
    return "1 prompt" if number == 1 else f"each of {number} prompts"
