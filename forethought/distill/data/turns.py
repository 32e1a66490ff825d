"""What a chat template puts around a user turn and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from forethought.errors import InvalidArgumentError
from forethought.models.text.tokenizer import TextTokenizer

_MARK = "forethought-user-turn"


@dataclass(frozen=True, slots=True)
class Turns:
    """The tokens that lead from nothing into a user turn, and from there into the answer."""

    header: Sequence[int]  # up to where the user turn begins; at least one token
    footer: Sequence[int]  # from its end to where the answer begins; may be empty
    end_token_ids: frozenset[int]  # each ends a turn

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> Self:
        """By the model's chat template. Without one, a text is all there is: no footer.

        Raises:
            InvalidArgumentError: the model has neither a template nor a token to begin with.
        """
        ends = frozenset(tokenizer.eos_token_ids)
        header, footer = "", ""
        if tokenizer.has_chat_template:
            before, mark, after = tokenizer.render_chat([("user", _MARK)]).partition(_MARK)
            header, footer = (before, after) if mark else ("", "")
        begin = tokenizer.encode(header, add_special_tokens=not tokenizer.has_chat_template)
        end = tokenizer.encode(footer, add_special_tokens=False) if footer else []
        begin = begin or sorted(ends)[:1]
        if not begin:
            raise InvalidArgumentError(
                {"target": "has neither a chat template nor a token that a text begins with"}
            )
        return cls(begin, end, ends)

    def closing(self, turn: Sequence[int]) -> list[int]:
        """What is still missing between a user turn, whose end token may be its last, and the
        answer. Empty where no template says anything: then the answer simply goes on."""
        has_end = bool(turn) and turn[-1] in self.end_token_ids
        rest = list(self.footer)
        return rest[1:] if has_end and rest and rest[0] == turn[-1] else rest
