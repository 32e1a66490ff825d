"""Stop texts are never leaked, never missed, and found by the text alone."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forethought.generation import Token
from forethought.sampling.types import TokenOrigin
from orchestrator.request.stop_matcher import StopMatcher

# Two letters, so that stop texts overlap, nest and almost match all the time.
LETTERS = st.text("ab", max_size=4)
TEXTS = st.lists(LETTERS, max_size=16)
STOPS = st.lists(st.text("ab", min_size=1, max_size=7), max_size=4)


def tokens(texts: Sequence[str]) -> list[Token]:
    return [
        Token(index, 100 + index, text, TokenOrigin.BONUS, None, 0.5)
        for index, text in enumerate(texts)
    ]


def run(matcher: StopMatcher, texts: Sequence[str]) -> list[Token]:
    """All that is shown of a stream that ends with its last token or with a stop text."""
    shown: list[Token] = []
    for token in tokens(texts):
        shown += matcher.push(token)
        if matcher.matched:
            return shown
    return shown + matcher.flush()


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """By trying all ends: place and text of the stop text that is complete first."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return end - len(stop), stop
    return None


def num_safe(text: str, stops: Sequence[str]) -> int:
    """Characters that no continuation can make part of a stop text."""
    for start in range(len(text)):
        if any(stop.startswith(text[start:]) for stop in stops):
            return start
    return len(text)


def joined(shown: Sequence[Token]) -> str:
    return "".join(token.text for token in shown)


@given(texts=TEXTS, stops=STOPS)
@example(texts=["abcd", "e", "f"], stops=["abcdef", "cd"])
@example(texts=["abcdef"], stops=["abcdef", "cd"])
@example(texts=["xabc"], stops=["bc", "abc"])
def test_the_stop_text_that_is_complete_first_cuts_the_text(texts, stops):
    matcher = StopMatcher(stops)
    shown = joined(run(matcher, texts))

    text = "".join(texts)
    hit = first_stop(text, stops)
    if hit is None:
        assert (shown, matcher.matched) == (text, "")
    else:
        assert (shown, matcher.matched) == (text[: hit[0]], hit[1])
    assert not any(stop in shown for stop in stops)


@given(text=st.text("ab", max_size=24), stops=STOPS, data=st.data())
def test_the_same_text_ends_alike_however_tokens_cut_it(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    endings = set()
    for cut in (pieces, list(text), [text]):
        matcher = StopMatcher(stops)
        endings.add((joined(run(matcher, cut)), matcher.matched))
    assert len(endings) == 1


@given(texts=TEXTS, stops=STOPS)
def test_a_token_is_shown_as_soon_as_no_stop_text_can_claim_any_of_it_and_not_before(texts, stops):
    matcher = StopMatcher(stops)
    shown: list[Token] = []
    text = ""
    for token in tokens(texts):
        shown += matcher.push(token)
        text += token.text
        if matcher.matched:
            break
        safe = num_safe(text, stops)
        ends = [len("".join(texts[: index + 1])) for index in range(token.index + 1)]
        # A token without text goes along with what is before it.
        assert len(joined(shown)) == max((end for end in ends if end <= safe), default=0)
        assert [held.index for held in shown] == [
            index for index, end in enumerate(ends) if end <= safe
        ]


@given(texts=TEXTS, stops=STOPS)
def test_tokens_come_out_in_order_and_unchanged_but_for_the_cut(texts, stops):
    shown = run(StopMatcher(stops), texts)
    assert [token.index for token in shown] == list(range(len(shown)))
    pushed = tokens(texts)
    assert shown[:-1] == pushed[: len(shown[:-1])]
    if shown:
        last = pushed[len(shown) - 1]
        assert last.text.startswith(shown[-1].text)
        assert shown[-1].token_id == last.token_id


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["on", "e st", "op two"], ["on", "e "]),
        (["stop"], []),
        (["a", "", "stop"], ["a", ""]),
        (["s", "t", "o", "ne"], ["s", "t", "o", "ne"]),
        (["ststop"], ["st"]),
    ],
)
def test_a_stop_text_may_span_tokens_and_begin_inside_one(texts, expected):
    assert [token.text for token in run(StopMatcher(["stop"]), texts)] == expected


def test_what_almost_was_a_stop_text_is_given_out_at_the_end():
    matcher = StopMatcher(["stop"])
    assert [token.text for t in tokens(["a", "st", "o"]) for token in matcher.push(t)] == ["a"]
    assert [token.text for token in matcher.flush()] == ["st", "o"]
    assert matcher.matched == ""


SPECIAL = {"<e>": 900, "<e>x": 901, "<f>": 902}


def shown_with_specials(stops: Sequence[str], pieces: Sequence[str | int]) -> tuple[list, str]:
    """Numbers are special tokens. Returns what is shown, ids for special ones, and what matched."""
    matcher = StopMatcher(stops, SPECIAL)
    shown: list[Token] = []
    for index, piece in enumerate(pieces):
        text, token_id = (piece, index) if isinstance(piece, str) else ("", piece)
        token = Token(index, token_id, text, TokenOrigin.BONUS, None, 0.5)
        shown += matcher.push(token, is_special=not isinstance(piece, str))
        if matcher.matched:
            break
    else:
        shown += matcher.flush()
    return [token.text or token.token_id for token in shown], matcher.matched


@pytest.mark.parametrize(
    ("stops", "pieces", "expected", "matched"),
    [
        (["<e>"], ["a", 900, "b"], ["a"], "<e>"),
        (["<e>"], ["a", "<e", ">b"], ["a"], "<e>"),
        (["<e>"], ["a", 902, "b"], ["a", 902, "b"], ""),
        (["b<e>"], ["ab", 900], ["a"], "b<e>"),
        (["b<e>"], ["ab", 902, 900], ["ab", 902, 900], ""),
        (["<e>\n"], ["a", 900, "\nb"], ["a"], "<e>\n"),
        (["<e>\n"], ["a", 900, "b"], ["a", 900, "b"], ""),
        (["<e><f>"], ["a", 900, 900, 902], ["a", 900], "<e><f>"),
        (["<e>x"], ["a", 901], ["a"], "<e>x"),
        (["e>"], ["a", 900, "b"], ["a", 900, "b"], ""),
        (["ab"], ["a", 900, "b"], [], "ab"),
        (["b<e>", "a"], ["ab", 900], [], "a"),
    ],
)
def test_a_stop_text_that_names_a_special_token_is_found_as_that_token(
    stops, pieces, expected, matched
):
    assert shown_with_specials(stops, pieces) == (expected, matched)


class MatcherThatHoldsNothing(StopMatcher):
    """Broken on purpose: looks at each token alone."""

    def _num_at_risk(self) -> int:
        return 0


def test_the_twin_that_holds_nothing_back_leaks():
    matcher = MatcherThatHoldsNothing(["stop"])
    assert "st" in joined(run(matcher, ["a st", "op b"]))
