"""The three steps of each round where a terminal has no room to show them side by side.

token               DP    TP verdict
round 1
' quick'         0.913 0.884 accepted
' red'           0.412 0.031 rejected
' fox'           0.730 0.655 dropped
' brown'               0.420 recovered
"""

from dataclasses import dataclass

from rich.cells import set_cell_size
from rich.text import Text

from forethought.cli.views.tokens import (
    ORIGIN_STYLES,
    VERDICT_STYLES,
    harmless,
    probability,
    quoted,
)
from forethought.generation import Step, Verdict
from forethought.sampling.types import VerificationMode

_FIXED_WIDTH = 23  # of a line, without its token
_MIN_TOKEN_WIDTH = 8


@dataclass(frozen=True, slots=True)
class NarrowLayout:
    """A line for each token; fits into 40 columns."""

    token_width: int
    mode: VerificationMode = VerificationMode.REJECTION

    @classmethod
    def for_width(cls, width: int) -> "NarrowLayout":
        """The layout that fills `width` columns."""
        return cls(max(_MIN_TOKEN_WIDTH, width - _FIXED_WIDTH))

    def header(self) -> list[Text]:
        """The heading of each column."""
        draft_prob = "" if self.mode is VerificationMode.COUPLED else "DP"
        heading = self._line("token", draft_prob, "TP", Text("verdict"))
        heading.stylize("bold")
        return [heading, Text("─" * (self.token_width + _FIXED_WIDTH), "dim")]

    def drafted_by(self, proposer: str) -> Text:
        """The line before the rounds that a proposer drafts for."""
        return Text(set_cell_size(f"by {harmless(proposer)}", self.token_width), "dim")

    def round(self, step: Step) -> list[Text]:
        """The number of the round, and a line for each token."""
        lines = [Text(f"round {step.round}", "bold")]
        for token in step.drafted:
            has_prob = token.draft_prob is not None and self.mode is not VerificationMode.COUPLED
            line = self._line(
                quoted(token.text, self.token_width),
                probability(token.draft_prob or 0.0) if has_prob else "",
                probability(token.target_prob),
                Text(token.verdict.value, VERDICT_STYLES[token.verdict]),
            )
            if token.verdict is Verdict.DROPPED:
                line.stylize("dim")
            lines.append(line)
        origin = step.final.origin
        lines.append(
            self._line(
                quoted(step.final_text, self.token_width),
                "",
                probability(step.final.target_prob),
                Text(origin.value, ORIGIN_STYLES[origin]),
            )
        )
        return lines

    def _line(self, token: str, draft_prob: str, target_prob: str, verdict: Text) -> Text:
        cells = f"{set_cell_size(token, self.token_width)} {draft_prob:>5} {target_prob:>5} "
        return Text.assemble(cells, verdict)
