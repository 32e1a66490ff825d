"""The three steps of each round as a table that grows round by round.

    round │ 1 speculation         │ 2 verification │ 3 rejection sampling
          │ drafted            DP │    TP  TP/DP   │ verdict  recovered/bonus    TP
    ──────┼───────────────────────┼────────────────┼────────────────────────────────
        0 │ ' quick'        0.913 │ 0.884   0.97   │ accepted
          │ ' red'          0.412 │ 0.031   0.08   │ rejected ' brown'        0.420
          │ ' fox'          0.730 │ 0.655   0.90   │ dropped

Terminals of less than 79 columns get one with less in it (`narrow_steps.py`).

By rejection sampling a drafted token is accepted with probability TP/DP, in block mode it is judged
together with those before it. A coupled session has no DP: the draft's probabilities play no part.
A line of its own says who drafts, when that changes. Lines are built by hand: a rich table can only
be printed once it is complete, and has no headings over several columns.
"""

from dataclasses import dataclass, replace

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from forethought.cli.views.narrow_steps import NarrowLayout
from forethought.cli.views.text_view import end_line, print_facts, print_logprobs, print_piece
from forethought.cli.views.tokens import (
    ORIGIN_STYLES,
    VERDICT_STYLES,
    harmless,
    probability,
    quoted,
)
from forethought.generation import GenerationEvent, JudgedToken, Started, Step, Token, Verdict
from forethought.sampling.types import TokenOrigin, VerificationMode

_JUDGEMENTS = {
    VerificationMode.REJECTION: "3 rejection sampling",
    VerificationMode.BLOCK: "3 block verification",
    VerificationMode.COUPLED: "3 choice by shared noise",
}
_MAX_WIDTH = 100
_FIXED_WIDTH = 35  # of a line, without its two tokens and step 2
_MIN_TOKEN_WIDTH = 15
_MIN_WIDTH = 79


class StepsView:
    """Prints each round's steps to `out` as they come, and the text at the end."""

    def __init__(self, out: Console, info: Console) -> None:
        self._out = out
        self._info = info
        self._layout = Layout.for_width(out.width if out.is_terminal else _MAX_WIDTH)
        self._tokens: list[Token] = []
        self._proposer = ""  # of the last draft

    def show(self, event: GenerationEvent) -> None:
        """Prints what the event adds."""
        if isinstance(event, Started):
            print_facts(self._info, event, self._out)
            self._layout = replace(self._layout, mode=event.verification_mode)
            self._print(self._layout.header())
        elif isinstance(event, Step):
            if event.drafted and event.proposer != self._proposer:
                self._proposer = event.proposer
                self._print([self._layout.drafted_by(event.proposer)])
            self._print(self._layout.round(event))
        elif isinstance(event, Token):
            self._tokens.append(event)

    def pause(self) -> None:
        """All lines are ended."""

    def close(self) -> None:
        """Prints the text."""
        if not self._tokens:
            return
        self._out.print()
        for token in self._tokens:
            print_piece(self._out, token)
        end_line(self._out, self._tokens)
        print_logprobs(self._info, self._tokens)

    def _print(self, lines: list[Text]) -> None:
        for line in lines:
            line.rstrip()
            self._out.print(line, soft_wrap=True, highlight=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """What stands in one line. Empty where nothing does."""

    style: str = ""  # of steps 1 and 2
    round: str = ""
    drafted: str = ""
    draft_prob: str = ""
    target_prob: str = ""
    ratio: str = ""
    verdict: str = ""
    verdict_style: str = ""
    final: str = ""
    final_style: str = ""
    final_prob: str = ""


_HEADINGS = _Row(
    drafted="drafted",
    draft_prob="DP",
    target_prob="TP",
    ratio="TP/DP",
    verdict="verdict",
    final="recovered/bonus",
    final_prob="TP",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The widths of a table that fits a terminal, and its lines."""

    token_width: int
    verification: str  # heading of step 2, as wide as its columns
    mode: VerificationMode = VerificationMode.REJECTION

    @classmethod
    def for_width(cls, width: int) -> "Layout | NarrowLayout":
        """The layout that fills `width` columns, within reason."""
        if width < _MIN_WIDTH:
            return NarrowLayout.for_width(width)
        verification = "2 parallel verification" if width >= 96 else "2 verification"
        space = min(width, _MAX_WIDTH) - _FIXED_WIDTH - len(verification)
        return cls(max(_MIN_TOKEN_WIDTH, space // 2), verification)

    def header(self) -> list[Text]:
        """Headings of the steps and of their columns, and a rule."""
        names = ("round", "1 speculation", self.verification, _JUDGEMENTS[self.mode])
        widths = (5, self.token_width + 6, len(self.verification), self.token_width + 15)
        steps = [name.ljust(width) for name, width in zip(names, widths, strict=True)]
        return [
            _join([Text(step, "bold") for step in steps]),
            self._line(self._without_draft_probs(_HEADINGS)),
            Text("─┼─".join("─" * width for width in widths), "dim"),
        ]

    def drafted_by(self, proposer: str) -> Text:
        """The line before the rounds that a proposer drafts for."""
        return self._line(_Row(drafted=f"by {harmless(proposer)}", style="dim"))

    def round(self, step: Step) -> list[Text]:
        """A line for each drafted token, and one for a bonus token."""
        rows = [self._drafted(token, step) for token in step.drafted]
        if step.final.origin is not TokenOrigin.RECOVERED:
            row = _Row(verdict="bonus", verdict_style=ORIGIN_STYLES[TokenOrigin.BONUS])
            rows.append(self._with_final(row, step))
        rows[0] = replace(rows[0], round=str(step.round))
        return [self._line(row) for row in rows]

    def _drafted(self, token: JudgedToken, step: Step) -> _Row:
        row = _Row(
            drafted=quoted(token.text, self.token_width),
            draft_prob="" if token.draft_prob is None else probability(token.draft_prob),
            target_prob=probability(token.target_prob),
            ratio=_ratio(token),
            verdict=token.verdict.value,
            verdict_style=VERDICT_STYLES[token.verdict],
            style="dim" if token.verdict is Verdict.DROPPED else "",
        )
        row = self._without_draft_probs(row)
        return self._with_final(row, step) if token.verdict is Verdict.REJECTED else row

    def _without_draft_probs(self, row: _Row) -> _Row:
        """In a coupled session, where they mean nothing; `row` itself in any other."""
        if self.mode is not VerificationMode.COUPLED:
            return row
        return replace(row, draft_prob="", ratio="")

    def _with_final(self, row: _Row, step: Step) -> _Row:
        return replace(
            row,
            final=quoted(step.final_text, self.token_width),
            final_style=ORIGIN_STYLES[step.final.origin],
            final_prob=probability(step.final.target_prob),
        )

    def _line(self, row: _Row) -> Text:
        ratio = f"{row.target_prob:>5}  {row.ratio:>5}"
        return _join(
            [
                Text(f"{row.round:>5}", "bold"),
                Text(
                    f"{set_cell_size(row.drafted, self.token_width)} {row.draft_prob:>5}", row.style
                ),
                Text(ratio.ljust(len(self.verification)), row.style),
                Text.assemble(
                    (f"{row.verdict:<8} ", row.verdict_style),
                    (set_cell_size(row.final, self.token_width), row.final_style),
                    f" {row.final_prob:>5}",
                ),
            ]
        )


def _join(groups: list[Text]) -> Text:
    bar = (" │ ", "dim")
    first, *others = groups
    return Text.assemble(first, *(part for group in others for part in (bar, group)))


def _ratio(token: JudgedToken) -> str:
    """TP/DP in five columns."""
    if not token.draft_prob:
        return ""
    ratio = token.target_prob / token.draft_prob
    if ratio < 0.005:
        return probability(ratio)
    return f"{ratio:.2f}" if ratio < 100 else ">99"
