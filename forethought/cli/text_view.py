"""The text as it comes, coloured by origin, between a line of facts and nothing else."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forethought.cli.tokens import ORIGIN_STYLES, harmless, legend, probability, quoted
from forethought.generation import GenerationEvent, Started, Token
from forethought.sampling.types import VerificationMode

_TOKEN_WIDTH = 18
_NUM_ALTERNATIVES_SHOWN = 3


class TextView:
    """Streams the text to `out`; facts go to `info`, which is stderr where `out` is a file."""

    def __init__(self, out: Console, info: Console) -> None:
        self._out = out
        self._info = info
        self._tokens: list[Token] = []

    def show(self, event: GenerationEvent) -> None:
        """Prints what the event adds."""
        if isinstance(event, Started):
            self._info.print(facts(event, self._out), soft_wrap=True, highlight=False)
        elif isinstance(event, Token):
            self._tokens.append(event)
            print_piece(self._out, event)

    def close(self) -> None:
        """Ends the last line, and shows log-probabilities if there are any."""
        end_line(self._out, self._tokens)
        print_logprobs(self._info, self._tokens)


def facts(started: Started, out: Console) -> Text:
    """How the request was understood, and what the colours mean where there are some."""
    words = [
        started.model,
        f"{started.num_prompt_tokens} prompt tokens",
        f"seed {started.seed}",
    ]
    if started.verification_mode is not VerificationMode.REJECTION:
        words.append(started.verification_mode.value)
    line = Text(" · ".join(words), "dim")
    if out.is_terminal and not out.no_color:
        line = Text.assemble(line, (" · ", "dim"), legend())
    return line


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
    if tokens and not tokens[-1].text.endswith("\n"):
        out.print()


def print_logprobs(out: Console, tokens: Sequence[Token]) -> None:
    """A table of log-probabilities; nothing if none were asked for."""
    if not any(token.logprob is not None for token in tokens):
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("token")
    table.add_column("logprob", justify="right")
    table.add_column("most likely (probability)")
    for token in tokens:
        shown = token.top_logprobs[:_NUM_ALTERNATIVES_SHOWN]
        likely = "  ".join(
            f"{quoted(top.text, _TOKEN_WIDTH)} {probability(math.exp(top.logprob))}"
            for top in shown
        )
        rest = len(token.top_logprobs) - len(shown)
        table.add_row(
            Text(quoted(token.text, _TOKEN_WIDTH), ORIGIN_STYLES[token.origin]),
            "" if token.logprob is None else f"{token.logprob:.3f}",
            Text(likely + (f"  and {rest} more" if rest else "")),
        )
    out.print(table)
