"""Chat templates render as they do in transformers, and refuse in the caller's words."""

from datetime import datetime

import pytest

from forethought.errors import InvalidArgumentError
from forethought.models.chat import sandbox as chat_sandbox
from forethought.models.chat import template
from forethought.models.chat.template import ChatTemplate

HELLO = [("user", "Hello")]


def test_messages_and_special_tokens_reach_the_template():
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}"
    chat_template = ChatTemplate(source, {"bos_token": "<s>"})
    assert chat_template.render([("user", "a"), ("assistant", "b")]) == "<s>[user]a[assistant]b"


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


PARTS_ONLY = (
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
    "{{ m['content'][0]['text'] }}",
    "{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}",
    "{% set c = m.content %}{% for p in c %}{{ p['text'] | trim | upper }}{% endfor %}",
    "{% if m.content is string %}{% else %}{{ m.content[0].text }}{% endif %}",
)


@pytest.mark.parametrize("body", PARTS_ONLY)
@pytest.mark.parametrize(
    "refusal", ["", "{{ raise_exception('no system') if m.role == 'system' }}"]
)
def test_a_template_that_takes_parts_is_given_parts(body, refusal):
    source = "{% for m in messages %}" + refusal + "[{{ m.role }}]" + body + "{% endfor %}"
    rendered = ChatTemplate(source).render([("user", "SAID"), ("assistant", "HEARD")])
    assert rendered == "[user]SAID[assistant]HEARD"


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}",
        "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}?{% endif %}",
        "{{ m.content | trim }}",
        "{{ m.content.split('|')[-1] }}",
    ],
)
def test_a_template_that_takes_texts_is_given_texts(body):
    source = "{% for m in messages %}" + body + "{% endfor %}"
    assert ChatTemplate(source).render([("user", "said")]) == "said"


@pytest.mark.parametrize(
    "body",
    [
        "{{ bos_token + m.content[0].text }}",
        "{% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token + '' }}",
        "{% for p in m.content %}{% if p.text | length > 4 %}{{ p.text }}{% endif %}{% endfor %}",
    ],
)
def test_parts_are_found_behind_special_tokens_and_conditions(body):
    source = "{% for m in messages %}" + body + "{% endfor %}"
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    assert "What I said" in ChatTemplate(source, tokens).render([("user", "What I said")])


@pytest.mark.parametrize("roles", [["user"], ["system"], ["system", "user", "assistant"]])
@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("urlencode", {"system": "be%20kind", "user": "a%20b%C3%A9", "assistant": "Ho"}),
        ("list | last", {"system": "d", "user": "é", "assistant": "o"}),
        (
            "tojson(ensure_ascii=true)",
            {"system": '"be kind"', "user": '"a b\\u00e9"', "assistant": '"Ho"'},
        ),
    ],
)
def test_parts_are_found_where_the_template_encodes_what_they_say(roles, encoding, encoded):
    in_parts = f"{{% for p in m.content %}}{{{{ p.text | {encoding} }}}}{{% endfor %}}"
    source = (
        f"{{% for m in messages %}}{{% if m.role in {roles} %}}{in_parts}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    conversation = {"system": "be kind", "user": "a bé", "assistant": "Ho"}
    shown = {**conversation, **{role: encoded[role] for role in roles}}
    assert ChatTemplate(source).render(list(conversation.items())) == "".join(shown.values())


def test_a_template_that_only_counts_is_given_texts():
    source = "{% for m in messages %}{{ m.content | length }}{% endfor %}"
    assert ChatTemplate(source).render([("user", "said")]) == "4"


@pytest.mark.parametrize("in_parts", ["user", "system"])
def test_each_role_is_given_the_form_that_the_template_takes_of_it(in_parts):
    parts = "{% for p in m.content %}{{ p.text }}{% endfor %}"
    choice = f"{{% if m.role == '{in_parts}' %}}{parts}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    source = "{% for m in messages %}" + choice + "|{% endfor %}"
    conversation = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Ho"), ("user", "So?")]
    assert ChatTemplate(source).render(conversation) == "Be kind.|Hi|Ho|So?|"


def test_a_template_that_never_ends_is_tried_once(monkeypatch):
    renderings = []

    def render(*arguments):
        renderings.append(arguments)
        return chat_sandbox.render(*arguments)

    monkeypatch.setattr(chat_sandbox, "MAX_SECONDS", 0.01)
    monkeypatch.setattr(template, "render", render)
    source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    with pytest.raises(InvalidArgumentError, match="seconds"):
        ChatTemplate(source).render(HELLO)
    assert len(renderings) == 1


def test_parts_in_a_macro_are_found():
    source = (
        "{% macro show(c) %}{% for p in c %}{{ p.text }}{% endfor %}{% endmacro %}"
        "{% for m in messages %}{{ show(m.content) }}{% endfor %}"
    )
    assert ChatTemplate(source).render([("user", "said")]) == "said"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "seconds"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60)}}",
            "seconds",
        ),
        ("{% for a in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", "characters"),
        ("{{ 'a' * 10**9 }}", "size"),
        ("{{ ['a'] * 100000000 }}", "size"),
        ("{{ 9 ** 9 ** 9 }}", "size"),
        ("{{ 'a'.ljust(1000000000) }}", "size"),
        ("{{ '%1000000000d' % 1 }}", "million"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_template_that_never_ends_or_writes_without_end_is_refused(
    monkeypatch, source, complaint
):
    if complaint == "seconds":
        monkeypatch.setattr(chat_sandbox, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(chat_sandbox, "MAX_CHARS", 1_000_000)
    with pytest.raises(InvalidArgumentError, match=complaint):
        ChatTemplate(source).render(HELLO)
