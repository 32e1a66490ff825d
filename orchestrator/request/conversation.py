"""The next turn of a conversation, as tokens behind those that were said.

What was said keeps its tokens, so that keys and values computed for them serve the next turn too.
Rendering the whole conversation anew would not promise that: text that was generated token by token
may be tokenized otherwise.
"""

from collections.abc import Sequence

from forethought.errors import InvalidArgumentError
from forethought.generation import ChatMessage
from forethought.models.text.tokenizer import TextTokenizer

_FIELD = "prompt.follow_up"
_ANSWER = "\ue000\ue001\ue000"  # private use: in no template, and trimmed by none


def next_turn(
    tokenizer: TextTokenizer, said: Sequence[int], messages: Sequence[ChatMessage]
) -> tuple[int, ...]:
    """The prompt of the next turn: all that was said, and `messages` as the template puts them.

    What the template puts behind an answer is seen from a conversation with a known one. If the
    answer ended with the token that the template ends it with, that token is not repeated.

    Raises:
        InvalidArgumentError: the model has no chat template, or it does not show answers as they
            are.
    """
    turns = [("user", "-"), ("assistant", _ANSWER), *((m.role, m.content) for m in messages)]
    _, found, rest = tokenizer.render_chat(turns).partition(_ANSWER)
    if not found:
        raise InvalidArgumentError({_FIELD: "the model's chat template cannot continue an answer"})
    if said and not tokenizer.has_text(said[-1]):
        rest = rest.removeprefix(tokenizer.token_text(said[-1]))
    return (*said, *tokenizer.encode(rest, add_special_tokens=False))
