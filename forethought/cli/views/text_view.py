"""The text as it comes, coloured by origin, between a line of facts and nothing else."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forethought.cli.views.tokens import ORIGIN_STYLES, harmless, legend, probability, quoted
from forethought.generation import GenerationEvent, Started, Token
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode

_TOKEN_WIDTH = 18
_LOGPROB_WIDTH = 14  # of its column, with what separates the three


class TextView:
    """Streams the text to `out`; facts go to `info`, which is stderr where `out` is a file."""

    def __init__(self, out: Console, info: Console, *, shows_facts: bool = True) -> None:
        self._out = out
        self._info = info
        self._shows_facts = shows_facts
        self._tokens: list[Token] = []
        self._is_paused = False  # the line that the text ended in was ended for it

    def show(self, event: GenerationEvent) -> None:
        """Prints what the event adds."""
        if isinstance(event, Started) and self._shows_facts:
            print_facts(self._info, event, self._out)
        elif isinstance(event, Token):
            self._tokens.append(event)
            self._is_paused = self._is_paused and not event.text
            print_piece(self._out, event)

    def pause(self) -> None:
        """On a terminal the text goes on in a new line."""
        if self._out.is_terminal and not self._is_paused:
            end_line(self._out, self._tokens)
            self._is_paused = True

    def close(self) -> None:
        """Ends the last line, and shows log-probabilities if there are any."""
        if not self._is_paused:
            end_line(self._out, self._tokens)
        print_logprobs(self._info, self._tokens)


def sampling_words(sampling: SamplingParams) -> list[str]:
    """How tokens are drawn, where that is not from all of them as the model has it."""
    shaping = (
        ("temperature", sampling.temperature, 1),
        ("top-k", sampling.top_k, 0),
        ("top-p", sampling.top_p, 1),
        ("min-p", sampling.min_p, 0),
        ("repetition penalty", sampling.repetition_penalty, 1),
    )
    return [f"{name} {value:g}" for name, value, neutral in shaping if value != neutral]


def print_facts(info: Console, started: Started, out: Console) -> None:
    """How the request was understood, and what the colours mean where there are some."""
    words = [
        started.model,
        f"{started.num_prompt_tokens} prompt tokens",
        f"seed {started.seed}",
    ]
    if started.verification_mode is not VerificationMode.REJECTION:
        words.append(started.verification_mode.value)
    if started.sampling is not None:
        words += sampling_words(started.sampling)
    line = Text(" · ".join(words), "dim")
    if out.is_terminal and not out.no_color:
        line = Text.assemble(line, (" · ", "dim"), legend())
    info.print(line, soft_wrap=not info.is_terminal, highlight=False)


def print_piece(out: Console, token: Token) -> None:
    """A token's text: in the colour of its origin on a terminal, byte for byte elsewhere."""
    if out.is_terminal:
        style = ORIGIN_STYLES[token.origin]
        out.out(harmless(token.text), style=style, end="", highlight=False)
    else:
        out.file.write(token.text)  # rich would expand tabs
        out.file.flush()


def end_line(out: Console, tokens: Sequence[Token]) -> None:
    """Ends the line that the text ended in, if it did not end it itself."""
    last = next((token.text for token in reversed(tokens) if token.text), "\n")
    if not last.endswith("\n"):
        out.print()


def print_logprobs(out: Console, tokens: Sequence[Token]) -> None:
    """A table of log-probabilities; nothing if none were asked for."""
    if not any(token.logprob is not None for token in tokens):
        return
    width = _TOKEN_WIDTH if out.width >= 80 else _TOKEN_WIDTH // 2
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("token", no_wrap=True)
    table.add_column("logprob", justify="right", no_wrap=True)
    table.add_column("most likely (probability)")
    for token in tokens:
        likely = [
            f"{quoted(top.text, width)} {probability(math.exp(top.logprob))}"
            for top in token.top_logprobs
        ]
        table.add_row(
            Text(quoted(token.text, width), ORIGIN_STYLES[token.origin]),
            "" if token.logprob is None else f"{token.logprob:.3f}",
            Text(_lines_of(likely, out.width - width - _LOGPROB_WIDTH)),
        )
    out.print(table)


def _lines_of(parts: Sequence[str], width: int) -> str:
    """The parts in as few lines as they fit into, none of them broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines else part
        if lines and cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return "\n".join(lines)
