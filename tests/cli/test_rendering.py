"""What recorded events look like on a terminal, in a pipe, and to machines."""

import io
import json
import re
import unicodedata
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from forethought.cli.views.json_view import JsonView
from forethought.cli.views.statistics import Tally, describe_finished
from forethought.cli.views.steps_view import Layout, StepsView
from forethought.cli.views.text_view import TextView
from forethought.cli.views.tokens import harmless, probability, quoted
from forethought.generation import (
    JudgedToken,
    NoDraftReason,
    ProposerStatistics,
    SpeculationStatistics,
    Token,
    TopLogprob,
    Verdict,
)
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import TokenOrigin, VerificationMode
from forethought.v1 import generation_pb2 as pb
from tests.cli import recorded

GREEN, YELLOW, CYAN, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[0m"


def show(view, events=recorded.EVENTS):
    for event in events:
        view.show(event)
    view.close()


def output(console):
    return console.file.getvalue()


def test_each_token_has_the_colour_of_its_origin(terminal):
    show(TextView(terminal, terminal))
    text = output(terminal)
    assert f"{CYAN}The{PLAIN}{GREEN} quick{PLAIN}{YELLOW} brown{PLAIN}{GREEN} fox{PLAIN}" in text


def test_the_colours_are_explained_before_the_text(terminal):
    show(TextView(terminal, terminal))
    first_line = output(terminal).splitlines()[0]
    assert f"{GREEN}accepted{PLAIN} {YELLOW}recovered{PLAIN} {CYAN}bonus{PLAIN}" in first_line
    assert "seed 7" in first_line


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    show(TextView(console, console))
    text = output(console)
    assert not any(colour in text for colour in (GREEN, YELLOW, CYAN))
    assert "recovered" not in text  # nothing to explain


def test_a_pipe_gets_the_text_and_nothing_else(pipe):
    facts = Console(file=io.StringIO(), width=100)
    show(TextView(pipe, facts))
    assert output(pipe) == recorded.TEXT
    assert output(facts) == "SmolLM2-135M-Instruct · 31 prompt tokens · seed 7\n"


def test_how_tokens_are_drawn_is_shown_where_it_narrows_or_sharpens(pipe):
    sampling = SamplingParams(0.7, 20, 0.8, 0.1, 1.05, 7)
    show(TextView(pipe, pipe), [replace(recorded.STARTED, sampling=sampling)])
    assert output(pipe).endswith(
        "temperature 0.7 · top-k 20 · top-p 0.8 · min-p 0.1 · repetition penalty 1.05\n"
    )


def test_a_text_that_ends_inside_a_line_gets_a_line_end(pipe):
    show(TextView(pipe, pipe), recorded.TOKENS[:2])
    assert output(pipe) == "The quick\n"


def test_an_escape_sequence_of_the_model_does_not_reach_the_terminal(terminal):
    token = replace(recorded.TOKENS[0], text="\x1b[2Jboo\x9b1m\r\n")
    show(TextView(terminal, terminal), [token])
    assert f"{CYAN}␛[2Jboo\\x9b1m␍{PLAIN}\n" in output(terminal)


def test_a_pipe_gets_the_text_exactly(pipe):
    token = replace(recorded.TOKENS[0], text="a\tb\x1b[1m\r\n")
    show(TextView(pipe, pipe), [token])
    assert output(pipe) == "a\tb\x1b[1m\r\n"


def test_logprobs_are_listed_after_the_text(pipe):
    show(TextView(pipe, pipe), [recorded.WITH_LOGPROBS])
    assert [line.rstrip() for line in output(pipe).splitlines()] == [
        "The",
        "",
        " token   logprob   most likely (probability)",
        " ───────────────────────────────────────────",
        " 'The'    -1.250   'The' 0.287  'A' 0.082",
        "",
    ]


STEPS_IN_100_COLUMNS = r"""
round │ 1 speculation               │ 2 parallel verification │ 3 rejection sampling
      │ drafted                  DP │    TP  TP/DP            │ verdict  recovered/bonus          TP
──────┼─────────────────────────────┼─────────────────────────┼─────────────────────────────────────
    0 │                             │                         │ bonus    'The'                 0.250
    1 │ ' quick'              0.500 │ 0.750   1.50            │ accepted
      │ ' red'                0.250 │ 0.031   0.12            │ rejected ' brown'              0.438
      │ ' fox'                1.000 │ 3e-05  3e-05            │ dropped
    2 │ ' fox'                0.875 │ 0.938   1.07            │ accepted
      │                             │                         │ bonus    '\n'                  1.000
""".lstrip("\n")


def test_steps_show_draft_verification_and_verdict_of_each_round(pipe):
    show(StepsView(pipe, pipe), [*recorded.EVENTS])
    started, _, rest = output(pipe).partition("\n")
    assert "seed 7" in started
    assert rest == f"{STEPS_IN_100_COLUMNS}\n{recorded.TEXT}"


COUPLED_STEPS = r"""
round │ 1 speculation               │ 2 parallel verification │ 3 choice by shared noise
      │ drafted                     │    TP                   │ verdict  recovered/bonus          TP
──────┼─────────────────────────────┼─────────────────────────┼─────────────────────────────────────
    1 │ ' quick'                    │ 0.750                   │ accepted
      │ ' red'                      │ 0.031                   │ rejected ' brown'              0.438
      │ ' fox'                      │ 3e-05                   │ dropped
""".lstrip("\n")


@pytest.mark.parametrize("draft_prob", [None, 1.0])
def test_steps_of_a_coupled_session_show_no_draft_probabilities(pipe, draft_prob):
    started = replace(recorded.STARTED, verification_mode=VerificationMode.COUPLED)
    drafted = tuple(replace(each, draft_prob=draft_prob) for each in recorded.REJECTED.drafted)
    show(StepsView(pipe, pipe), [started, replace(recorded.REJECTED, drafted=drafted)])
    facts, _, steps = output(pipe).partition("\n")
    assert facts.endswith("seed 7 · coupled")
    assert steps == COUPLED_STEPS


def test_steps_name_what_judged_the_draft(pipe):
    started = replace(recorded.STARTED, verification_mode=VerificationMode.BLOCK)
    show(StepsView(pipe, pipe), [started])
    assert "3 block verification" in output(pipe)


def test_steps_are_printed_as_soon_as_their_round_is_over(pipe):
    view = StepsView(pipe, pipe)
    view.show(recorded.STARTED)
    view.show(recorded.REJECTED)
    assert "' brown'" in output(pipe)


def test_steps_say_who_drafts_when_that_changes(pipe):
    view = StepsView(pipe, pipe)
    for proposer in ("suffix", "suffix", "model"):
        view.show(recorded.UNDRAFTED)
        view.show(replace(recorded.ACCEPTED, proposer=proposer))
    beginnings = [line[:20].split() for line in output(pipe).splitlines()]
    rounds = [words for words in beginnings if words[:2] == ["│", "by"] or words[0].isdecimal()]
    assert rounds == [
        ["0", "│"],
        ["│", "by", "suffix"],
        ["2", "│", "'", "fox'"],
        ["0", "│"],
        ["2", "│", "'", "fox'"],
        ["0", "│"],
        ["│", "by", "model"],
        ["2", "│", "'", "fox'"],
    ]


@pytest.mark.parametrize("width", [80, 90, 100, 200])
def test_steps_fit_the_terminal(width):
    layout = Layout.for_width(width)
    long = replace(recorded.REJECTED, final_text=" incomprehensibilities" * 3)
    lines = [*layout.header(), *layout.round(long)]
    assert max(line.cell_len for line in lines) <= min(width, 100)


def test_steps_have_one_line_a_drafted_token_and_one_a_bonus():
    layout = Layout.for_width(100)
    assert [len(layout.round(s)) for s in (recorded.UNDRAFTED, recorded.REJECTED)] == [1, 3]
    assert len(layout.round(recorded.ACCEPTED)) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the", "' the'"),
        ("\n\t", r"'\n\t'"),
        ("a\\n", r"'a\\n'"),
        ("\x00", "'␀'"),
        (" incomprehensibilities", "' incompre…"),
        ("漢字漢字漢字", "'漢字漢字…"),
    ],
)
def test_a_token_in_a_table_shows_its_spaces_and_keeps_its_width(text, shown):
    assert quoted(text, 11) == shown


def test_line_ends_and_tabs_are_harmless():
    assert harmless("a\n\tb") == "a\n\tb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1.0, "1.000"), (0.91349, "0.913"), (0.0005, "0.001"), (0.00003, "3e-05")],
)
def test_a_small_probability_is_not_shown_as_zero(value, shown):
    assert probability(value) == shown


def json_lines(events):
    out = io.StringIO()
    show(JsonView(out), events)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_has_one_object_an_event():
    kinds = [line["event"] for line in json_lines(recorded.EVENTS)]
    assert kinds == [type(event).__name__.lower() for event in recorded.EVENTS]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (recorded.STARTED, pb.GenerationStarted),
        (recorded.WITH_LOGPROBS, pb.GeneratedToken),
        (recorded.REJECTED, pb.SpeculationStep),
        (recorded.FINISHED, pb.GenerationFinished),
    ],
)
def test_json_fields_have_the_names_of_the_proto(event, message):
    (line,) = json_lines([event])
    assert set(line) - {"event"} == set(message.DESCRIPTOR.fields_by_name)
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            parts = line[field.name] if isinstance(line[field.name], list) else [line[field.name]]
            assert set(parts[0]) == set(field.message_type.fields_by_name)


def test_json_names_enums_in_lower_case():
    step, finished = json_lines([recorded.REJECTED, recorded.FINISHED])
    assert [token["verdict"] for token in step["drafted"]] == ["accepted", "rejected", "dropped"]
    assert step["final_origin"] == "recovered"
    assert finished["finish_reason"] == "length"


def test_statistics_name_tokens_speed_rounds_and_acceptance():
    assert describe_finished(recorded.FINISHED) == (
        "5 tokens · 31.2 tokens/s · first token 50 ms · 3 rounds · acceptance rate 50% · "
        "mean acceptance length 1.67"
    )


def test_statistics_tell_several_proposers_apart():
    counts = (ProposerStatistics("suffix", 2, 4, 3), ProposerStatistics("model", 10, 1_200, 600))
    for proposers, shown in (
        (counts, "acceptance rate 50% (model 50% of 1,200, suffix 75% of 4) ·"),
        (counts[:1], "acceptance rate 50% ·"),
    ):
        speculation = replace(recorded.FINISHED.speculation, proposers=proposers)
        assert shown in describe_finished(replace(recorded.FINISHED, speculation=speculation))


def test_statistics_say_when_nothing_was_drafted():
    plain = replace(recorded.FINISHED, speculation=SpeculationStatistics(num_rounds=5))
    assert "nothing drafted · mean acceptance length 1.00" in describe_finished(plain)


@pytest.mark.parametrize("reason", NoDraftReason)
def test_statistics_say_why_nothing_was_drafted(reason: NoDraftReason):
    speculation = SpeculationStatistics(
        num_rounds=5, no_draft_reason=reason, no_draft_detail="x and y"
    )
    line = describe_finished(replace(recorded.FINISHED, speculation=speculation))
    assert re.search(r"nothing drafted: [^·()]+ \(x and y\) ·", line)


def test_statistics_count_rounds_that_missed_their_draft():
    speculation = replace(recorded.FINISHED.speculation, num_draft_failures=1)
    line = describe_finished(replace(recorded.FINISHED, speculation=speculation))
    assert line.endswith("1 round without a draft")


def test_statistics_of_an_interrupted_generation_count_what_came():
    tally = Tally()
    for event in recorded.EVENTS[:-1]:
        tally.add(event)
    line = tally.line()
    assert line.startswith("5 tokens so far · ")
    assert line.endswith(" · 3 rounds · mean acceptance length 1.67")
    assert not tally.is_complete


def test_statistics_of_an_interrupted_first_round_do_not_divide_by_zero():
    tally = Tally()
    tally.add(Token(0, 504, "The", TokenOrigin.ACCEPTED, 0.5, 0.5))
    assert tally.line().endswith(" · 0 rounds")


@pytest.mark.parametrize("width", [40, 53, 78, 79, 80, 96, 120])
@pytest.mark.parametrize("mode", VerificationMode)
def test_the_steps_fit_into_any_terminal_from_40_columns_on(width, mode):
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    texts = ("\x1b[31m\x00\x9b", "日本語の文字列" * 5, "👍🏽" * 20, "a\u202eb\u2028c", "\t\n", "")
    wide = [
        replace(
            recorded.REJECTED,
            drafted=(JudgedToken(1, text, 3e-5, 1e-9, Verdict.REJECTED),),
            final_text=text,
        )
        for text in texts
    ]
    started = replace(recorded.STARTED, verification_mode=mode)
    show(StepsView(terminal, Console(file=io.StringIO())), [started, *recorded.EVENTS[1:], *wide])
    lines = output(terminal).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not any(unicodedata.category(each) == "Cc" for line in lines for each in line)
    assert sum("rejected" in line for line in lines) == 1 + len(texts)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_all_log_probabilities_are_shown_that_were_asked_for(width):
    console = Console(file=io.StringIO(), width=width)
    tops = tuple(TopLogprob(each, f"word {each}", -1.0) for each in range(20))
    show(TextView(console, console), [replace(recorded.WITH_LOGPROBS, top_logprobs=tops)])
    shown = output(console)
    assert all(f"'word {each}' 0.368" in shown for each in range(20))
    assert max(map(cell_len, shown.splitlines())) <= width


def test_a_pause_ends_a_line_of_text_once(terminal):
    view = TextView(terminal, terminal)
    view.show(recorded.TOKENS[0])
    view.pause()
    view.pause()
    view.show(recorded.TOKENS[1])
    view.close()
    lines = Text.from_ansi(output(terminal)).plain.splitlines()
    assert lines == ["The", " quick"]


def test_a_pause_puts_nothing_into_a_file(pipe):
    view = TextView(pipe, pipe)
    view.show(recorded.TOKENS[0])
    view.pause()
    view.show(recorded.TOKENS[1])
    assert output(pipe) == "The quick"
