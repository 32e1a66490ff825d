"""What is shown while a probe runs, and after."""

from forethought.cli.probe.view import ProgressView, describe_verdict, print_report
from forethought.generation import SpeculationStatistics
from forethought.probe.report import make_report
from forethought.probe.sampling import Answer, Samples
from forethought.probe.verdict import Answers, Criteria, PromptAnswers, Verdict, judge_answers
from tests.cli.conftest import pipe, terminal  # noqa: F401 - fixtures

CRITERIA = Criteria(num_tokens=2, alpha=0.01, max_unseen_bias=0.25)
HEADS, TAILS = (1, 2), (1, 3)
TEXTS = {1: "a", 2: "\x1b[31m[red]", 3: " tails"}


def report_on(plain_heads, speculative_heads, num_samples=1000, num_draft_failures=0):
    plain, speculative = (
        (HEADS,) * heads + (TAILS,) * (num_samples - heads)
        for heads in (plain_heads, speculative_heads)
    )
    answers = Answers(speculative, 1000, 600, num_samples, num_draft_failures)
    samples = Samples((PromptAnswers(Answers(plain), answers),), TEXTS)
    return make_report(judge_answers(samples.answers, CRITERIA), samples)


def test_a_terminal_sees_how_much_is_answered_and_drafted(terminal):  # noqa: F811
    view = ProgressView(terminal, 4)
    assert view.num_answers == 0
    with view.live():
        view.answered(Answer((0, True), HEADS, SpeculationStatistics(num_draft_tokens=3)))
    assert view.num_answers == 1
    shown = terminal.file.getvalue()
    assert "3 drafted, 0 accepted" in shown
    assert "1/4" in shown


def test_a_pipe_sees_no_progress(pipe):  # noqa: F811
    view = ProgressView(pipe, 4)
    with view.live():
        view.answered(Answer((0, True), HEADS, SpeculationStatistics()))
    assert pipe.file.getvalue().strip() == ""


def test_the_verdict_says_what_would_have_been_found():
    verdict, worth = describe_verdict(report_on(500, 510).judgement, CRITERIA)
    assert verdict.plain == (
        "lossless: least p-value 0.655 in 2 tests (prompt 1, 2 tokens), against a limit of 0.005"
    )
    assert worth.plain == (
        "would have found, with probability 0.9, a bias in total variation of 9.1% at 2 tokens "
        "(1 prompt)"
    )


def test_what_stands_in_the_way_comes_with_advice():
    (line,) = describe_verdict(report_on(50, 50, num_samples=100).judgement, CRITERIA)
    assert line.plain == (
        "inconclusive: too few samples (more --samples, or a larger --max-unseen-bias)"
    )


def test_a_bias_is_shown_with_both_frequencies(capsys):
    report = report_on(500, 400)
    assert report.judgement.verdict is Verdict.BIASED
    print_report(report, CRITERIA, "headline")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["'a", "tails'", "50.00%", "60.00%", "7e-06"] in lines


def test_texts_that_would_steer_the_terminal_are_shown_as_they_are(capsys):
    print_report(report_on(500, 400), CRITERIA, "[fe80::1]:50050")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "'a␛[31m[red]'" in out
    assert out.startswith("[fe80::1]:50050\n")


def test_rounds_without_a_draft_are_told(capsys):
    print_report(report_on(500, 500, num_draft_failures=7), CRITERIA, "headline")
    assert "accepted 600; 7 rounds got no draft" in capsys.readouterr().out
