"""Chat templates render as they do in transformers, and refuse in the caller's words."""

from datetime import datetime

import pytest

from forethought.errors import InvalidArgumentError
from forethought.models.chat import ChatTemplate

HELLO = [("user", "Hello")]


def test_messages_and_special_tokens_reach_the_template():
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}"
    template = ChatTemplate(source, {"bos_token": "<s>"})
    assert template.render([("user", "a"), ("assistant", "b")]) == "<s>[user]a[assistant]b"


def test_the_prompt_ends_where_the_answer_begins():
    source = "{% if add_generation_prompt %}<assistant>{% endif %}"
    assert ChatTemplate(source).render(HELLO) == "<assistant>"


def test_blocks_leave_no_lines_of_their_own():
    source = (
        "{% for m in messages %}\n    {% if m.role == 'user' %}\nU\n    {% endif %}\n{% endfor %}"
    )
    assert ChatTemplate(source).render(HELLO) == "U\n"


def test_loops_can_break_and_json_is_not_escaped_for_html():
    source = "{% for m in messages %}{{ m | tojson }}{% break %}{% endfor %}"
    rendered = ChatTemplate(source).render([("user", "<é>"), ("user", "second")])
    assert rendered == '{"role": "user", "content": "<é>"}'


def test_a_generation_block_is_rendered_as_it_is():
    source = "a{% generation %}{{ messages[0].content }}{% endgeneration %}b"
    assert ChatTemplate(source).render(HELLO) == "aHellob"


def test_the_date_can_be_asked_for():
    rendered = ChatTemplate("{{ strftime_now('%Y') }}").render(HELLO)
    assert int(rendered) - datetime.now().astimezone().year in (-1, 0)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "Expected"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ missing.field }}", "undefined"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ 1 // 0 }}", "zero"),
    ],
)
def test_a_template_that_refuses_or_fails_is_an_error_of_the_conversation(source, complaint):
    with pytest.raises(InvalidArgumentError, match=complaint) as caught:
        ChatTemplate(source).render(HELLO)
    assert list(caught.value.violations) == ["prompt.conversation"]
