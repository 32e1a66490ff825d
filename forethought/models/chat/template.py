"""Chat templates: Jinja programs that come with a model and turn messages into its prompt.

They are rendered as transformers does, in `forethought/models/chat/sandbox.py`. Most take a
message's content as a text. Some, of guards and of models that see, take a list of parts and find
no text in a text, so that what the user said is left out without a word. Which of the two a
template takes is found by trying: the form that shows more of a known conversation, the text where
both show all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2

from forethought.errors import InvalidArgumentError
from forethought.models.chat.sandbox import compile_template, render

Message = tuple[str, str]
"""Role and content."""

CONVERSATION_FIELD = "prompt.conversation"
"""The request's field that template errors are about."""

_MARKS = "\ue000", "\ue001", "\ue002", "\ue003"  # private use: in no template, changed by no filter
_TRIED_ROLES = (
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "user"),
    ("system", "user"),
    ("user",),
)
"""From the one that tells most to the one that most templates take."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template and the special tokens that it may name, such as `bos_token`."""

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for `messages`, up to where the assistant's answer begins.

        Holds the special tokens as text already: encode it without adding any. Raises
        InvalidArgumentError when the template refuses the messages or fails on them.
        """
        try:
            template = _compile(self.source)
            form = _parts if _takes_parts(template) else _text
            return _rendered(template, messages, form, self.special_tokens)
        except Exception as error:
            # Foreign code: whatever it raises says that these messages do not fit the template.
            raise InvalidArgumentError(
                {CONVERSATION_FIELD: f"the model's chat template refuses it: {error}"}
            ) from error


_compile = lru_cache(maxsize=8)(compile_template)


@lru_cache(maxsize=8)
def _takes_parts(template: jinja2.Template) -> bool:
    """Whether a template shows more of what is said when it comes as a list of parts."""
    for roles in _TRIED_ROLES:
        messages = list(zip(roles, _MARKS, strict=False))
        num_as_text = _num_shown(template, messages, _text)
        num_as_parts = _num_shown(template, messages, _parts)
        if num_as_text or num_as_parts:
            return num_as_parts > num_as_text
    return False


def _num_shown(
    template: jinja2.Template, messages: Sequence[Message], form: Callable[[str], object]
) -> int:
    """Of the messages' contents; none where the template refuses them."""
    try:
        shown = _rendered(template, messages, form, {})
    except Exception:  # noqa: BLE001 - foreign code, as in `render`
        return 0
    return sum(content in shown for _role, content in messages)


def _text(content: str) -> str:
    return content


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _rendered(
    template: jinja2.Template,
    messages: Sequence[Message],
    form: Callable[[str], object],
    special_tokens: Mapping[str, str],
) -> str:
    variables: dict[str, Any] = {
        **special_tokens,
        "messages": [{"role": role, "content": form(content)} for role, content in messages],
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
    }
    return render(template, variables)
