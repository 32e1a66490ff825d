"""Chat templates: Jinja programs that come with a model and turn messages into its prompt.

They are rendered as transformers does, in `forethought/models/chat/sandbox.py`. Most take a
message's content as a text. Some, of guards and of models that see, take a list of parts and find
no text in a text, so that what the user said is left out without a word. Which of the two a
template takes is found by trying: the form that shows more of a known conversation, the text where
both show all. What a template encodes is shown if another content gives another prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

import jinja2

from forethought.errors import InvalidArgumentError
from forethought.models.chat.sandbox import TooSlowError, compile_template, render

Message = tuple[str, str]
"""Role and content."""

CONVERSATION_FIELD = "prompt.conversation"
"""The request's field that template errors are about."""

_MARKS = [mark * 8 for mark in "\ue000\ue001\ue002\ue003"]
"""Contents of private use: in no template, changed by no filter, and no short ones."""
_OTHER_MARK = "\ue004" * 8
"""As long as they are: a template that only counts shows none of them."""
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
            forms = _forms(template, tuple(self.special_tokens.items()))
            return _rendered(template, messages, forms, self.special_tokens)
        except Exception as error:
            # Foreign code: whatever it raises says that these messages do not fit the template.
            raise InvalidArgumentError(
                {CONVERSATION_FIELD: f"the model's chat template refuses it: {error}"}
            ) from error


_compile = lru_cache(maxsize=8)(compile_template)


@dataclass(frozen=True, slots=True)
class _Forms:
    """In which form a template takes what each role says."""

    in_parts: bool = False
    exceptions: frozenset[str] = frozenset()
    """Roles for which it is the other form."""

    def put(self, role: str, content: str) -> str | list[dict[str, str]]:
        if self.in_parts is (role in self.exceptions):
            return content
        return [{"type": "text", "text": content}]


@lru_cache(maxsize=8)
def _forms(template: jinja2.Template, special_tokens: tuple[tuple[str, str], ...]) -> _Forms:
    """Those that show the most of what is said."""
    for roles in _TRIED_ROLES:
        messages = list(zip(roles, _MARKS, strict=False))

        @cache
        def num_shown(forms: _Forms, messages: Sequence[Message] = messages) -> tuple[int, int]:
            return _num_shown(template, messages, forms, dict(special_tokens))

        # Of forms that show as much the first one: text, and no exceptions.
        plain = (_Forms(), _Forms(in_parts=True))
        best = max(plain, key=num_shown)
        if num_shown(best) < (len(messages), len(messages)):
            mixed = [
                replace(each, exceptions=frozenset({role})) for each in plain for role in roles
            ]
            best = max((best, *mixed), key=num_shown)
        if any(num_shown(best)):
            return best
    return _Forms()


def _num_shown(
    template: jinja2.Template,
    messages: Sequence[Message],
    forms: _Forms,
    special_tokens: Mapping[str, str],
) -> tuple[int, int]:
    """Of the messages' contents, those shown word for word, and those shown in whatever way.

    None where the template refuses them. Raises TooSlowError.
    """
    try:
        shown = _rendered(template, messages, forms, special_tokens)
        are_whole = [content in shown for _role, content in messages]
        are_shown = list(are_whole)
        for index, (role, content) in enumerate(messages):
            if not are_whole[index] and repr(content) not in shown:  # else Python's list of parts
                changed = [*messages[:index], (role, _OTHER_MARK), *messages[index + 1 :]]
                are_shown[index] = _rendered(template, changed, forms, special_tokens) != shown
    except TooSlowError:
        raise
    except Exception:  # noqa: BLE001 - foreign code, as in `render`
        return 0, 0
    return sum(are_whole), sum(are_shown)


def _rendered(
    template: jinja2.Template,
    messages: Sequence[Message],
    forms: _Forms,
    special_tokens: Mapping[str, str],
) -> str:
    variables: dict[str, Any] = {
        **special_tokens,
        "messages": [{"role": role, "content": forms.put(role, said)} for role, said in messages],
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
    }
    return render(template, variables)
