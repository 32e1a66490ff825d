"""From judged tokens to text: where the output ends, and what of it is shown."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.generation import FinishReason, Token, TopLogprob
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.types import OutputToken, TokenOrigin
from orchestrator.request.output import Ending, Output
from tests.orchestrator.conftest import BYTE_EOS_ID

HALF = "\ufffd"
A, B, C = (ord(letter) for letter in "abc")
STOP, AB, ABC, SHI, SHIJIE, SPACE_NEWLINE, X_NEWLINE = range(256, BYTE_EOS_ID)
FIRST_OF_SHI, SECOND_OF_SHI, LAST_OF_SHI = "世".encode()

# Mostly bytes and words that the stop texts are made of; halves of characters among them.
TOKEN_IDS = st.lists(
    st.sampled_from([A, B, C, AB, ABC, STOP, SHI, SHIJIE, *"世".encode(), 0xFF, BYTE_EOS_ID])
    | st.integers(0, BYTE_EOS_ID),
    min_size=1,
    max_size=30,
)
STOPS = st.lists(st.sampled_from(["ab", "bc", "abca", "世", "b世", "stop", "\n"]), max_size=3)


def output(
    tokenizer: TextTokenizer,
    *,
    prompt: Sequence[int] = (A,),
    max_tokens: int = 100,
    stops: Sequence[str] = (),
    stop_token_ids: Sequence[int] = (BYTE_EOS_ID,),
) -> Output:
    return Output(
        tokenizer,
        prompt,
        max_tokens=max_tokens,
        stops=stops,
        stop_token_ids=frozenset(stop_token_ids),
    )


def judged(token_ids: Sequence[int]) -> list[OutputToken]:
    return [OutputToken(token_id, TokenOrigin.BONUS, None, 0.5) for token_id in token_ids]


def joined(shown: Sequence[Token]) -> str:
    return "".join(token.text for token in shown)


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Place and text of the stop text that is complete first."""
    hits = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    return min(hits)[1:] if hits else None


@settings(max_examples=150)
@given(token_ids=TOKEN_IDS, stops=STOPS, max_tokens=st.integers(1, 30))
def test_text_and_ending_are_those_of_the_tokens(byte_tokenizer, token_ids, stops, max_tokens):
    watched = output(byte_tokenizer, max_tokens=max_tokens, stops=stops)
    shown = watched.push(judged(token_ids))

    ends = [
        index
        for index, token_id in enumerate(token_ids)
        if token_id == BYTE_EOS_ID or index + 1 == max_tokens
    ]
    counted = token_ids[: ends[0] + 1] if ends else token_ids
    text = byte_tokenizer.decode(counted)
    hit = first_stop(text, stops)
    if hit and watched.ending:
        assert watched.ending == Ending(FinishReason.STOP, matched_stop=hit[1])
        assert joined(shown) == text[: hit[0]]
    elif not ends:
        assert watched.ending is None
        assert text.startswith(joined(shown))
    else:
        assert watched.num_tokens == len(shown) == len(counted)
        assert joined(shown) == text
        if counted[-1] == BYTE_EOS_ID:
            assert watched.ending == Ending(FinishReason.STOP, matched_stop_token_id=BYTE_EOS_ID)
        else:
            assert watched.ending == Ending(FinishReason.LENGTH)
    assert [token.index for token in shown] == list(range(len(shown)))
    assert [token.token_id for token in shown] == token_ids[: len(shown)]


@settings(max_examples=150)
@given(token_ids=TOKEN_IDS, stops=STOPS, max_tokens=st.integers(1, 30), data=st.data())
def test_what_is_shown_does_not_depend_on_how_rounds_cut_the_tokens(
    byte_tokenizer, token_ids, stops, max_tokens, data
):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(token_ids)), max_size=6)))
    at_once = output(byte_tokenizer, max_tokens=max_tokens, stops=stops)
    expected = at_once.push(judged(token_ids))

    in_rounds = output(byte_tokenizer, max_tokens=max_tokens, stops=stops)
    shown: list[Token] = []
    for start, end in zip([0, *cuts], [*cuts, len(token_ids)], strict=True):
        if not in_rounds.ending:
            shown += in_rounds.push(judged(token_ids[start:end]))
    assert shown == expected
    assert (in_rounds.ending, in_rounds.num_tokens) == (at_once.ending, at_once.num_tokens)


@pytest.mark.parametrize(
    ("stop_token_ids", "ending"),
    [
        ((C,), Ending(FinishReason.STOP, matched_stop_token_id=C)),
        ((BYTE_EOS_ID, C), Ending(FinishReason.STOP, matched_stop_token_id=C)),
        ((), Ending(FinishReason.LENGTH)),
    ],
)
def test_a_stop_token_ends_the_output_and_is_the_last_of_it(byte_tokenizer, stop_token_ids, ending):
    watched = output(byte_tokenizer, max_tokens=4, stop_token_ids=stop_token_ids)
    shown = watched.push(judged([A, B, C, A, B]))
    assert joined(shown) == ("abc" if stop_token_ids else "abca")
    assert watched.ending == ending


def test_a_stop_token_at_the_last_place_counts_as_a_stop(byte_tokenizer):
    watched = output(byte_tokenizer, max_tokens=1, stop_token_ids=(C,))
    watched.push(judged([C]))
    assert watched.ending == Ending(FinishReason.STOP, matched_stop_token_id=C)


@pytest.mark.parametrize("last", [BYTE_EOS_ID, FIRST_OF_SHI])
def test_half_a_character_at_the_end_comes_with_the_last_token(byte_tokenizer, last):
    token_ids = [A, FIRST_OF_SHI, SECOND_OF_SHI, last]
    shown = output(byte_tokenizer, max_tokens=4).push(judged(token_ids))
    assert [token.text for token in shown[:3]] == ["a", "", ""]
    assert shown[3].text == byte_tokenizer.decode(token_ids)[1:]
    assert set(shown[3].text) == {HALF}


def test_a_character_comes_with_the_token_that_completes_it(byte_tokenizer):
    shown = output(byte_tokenizer).push(judged([*"世".encode(), B]))
    assert [token.text for token in shown] == ["", "", "世", "b"]


def test_a_stop_text_that_half_a_character_completes_is_found(byte_tokenizer):
    watched = output(byte_tokenizer, max_tokens=2, stops=["a" + HALF])
    assert joined(watched.push(judged([A, FIRST_OF_SHI]))) == ""
    assert watched.ending == Ending(FinishReason.STOP, matched_stop="a" + HALF)


def test_the_end_token_gives_out_what_a_stop_text_held_back(byte_tokenizer):
    watched = output(byte_tokenizer, stops=["abc"])
    assert watched.push(judged([A, B])) == []
    assert [token.text for token in watched.push(judged([BYTE_EOS_ID]))] == ["a", "b", ""]
    assert watched.ending == Ending(FinishReason.STOP, matched_stop_token_id=BYTE_EOS_ID)


def test_tokens_of_a_stop_text_are_counted_though_not_shown(byte_tokenizer):
    watched = output(byte_tokenizer, stops=["abc"])
    assert joined(watched.push(judged([C, A, B, C, A]))) == "c"
    assert watched.num_tokens == 4


def test_the_stop_text_wins_over_the_limit_that_its_last_token_reaches(byte_tokenizer):
    watched = output(byte_tokenizer, max_tokens=3, stops=["abc"])
    watched.push(judged([A, B, C]))
    assert watched.ending == Ending(FinishReason.STOP, matched_stop="abc")


def test_the_prompt_is_no_part_of_a_stop_text(byte_tokenizer):
    watched = output(byte_tokenizer, prompt=[A, B], stops=["abc"])
    assert joined(watched.push(judged([C]))) == "c"
    assert watched.ending is None


def test_probabilities_and_logprobs_come_along(byte_tokenizer):
    token = OutputToken(B, TokenOrigin.ACCEPTED, 0.25, 0.75, -0.5, ((B, -0.5), (BYTE_EOS_ID, -2.0)))
    (shown,) = output(byte_tokenizer).push([token])
    assert shown == Token(
        0,
        B,
        "b",
        TokenOrigin.ACCEPTED,
        0.25,
        0.75,
        -0.5,
        (TopLogprob(B, "b", -0.5), TopLogprob(BYTE_EOS_ID, "</s>", -2.0)),
    )
