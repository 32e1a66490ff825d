from forethought.distill.data.conversation import Conversation, Lengths, loop_period
from forethought.distill.data.prompts import Prompt
from forethought.distill.data.turns import Turns

TURNS = Turns(header=[7], footer=[1, 8], end_token_ids=frozenset({1}))


def conversation(*, asks: bool = True, lengths: Lengths | None = None) -> Conversation:
    prompt = Prompt([7, 9], kind=0, temperature=0.0, asks=asks)
    return Conversation(0, prompt, TURNS, lengths or Lengths(), 0.9, max_len=400)


def test_a_user_turn_that_ends_itself_is_closed_once():
    each = conversation()
    for token in (5, 1):
        each.computed()
        each.add(token)
    assert each.log == [7, 9, 5, 1, 8]
    assert each.pending == [1, 8]
    assert each.answer_start == 5
    assert each.temperature == 0.0


def test_a_user_turn_that_is_too_long_is_closed_in_full():
    each = conversation(lengths=Lengths(max_user=2))
    each.add(5)
    assert each.temperature == 0.9
    each.add(6)
    assert each.log == [7, 9, 5, 6, 1, 8]


def test_an_answer_ends_with_its_end_token_or_at_its_limit():
    ended, cut = (conversation(asks=False, lengths=Lengths(max_answer=3)) for _ in range(2))
    ended.add(1)
    assert ended.is_done
    assert not ended.is_kept()
    for token in (5, 6, 5):
        assert not cut.is_done
        cut.add(token)
    assert cut.is_done


def test_an_answer_that_only_repeats_itself_ends_and_keeps_two_rounds():
    each = conversation(asks=False)
    start = [20, 21, 22]
    for index in range(300):
        if each.is_done:
            break
        each.add(start[index] if index < 3 else 30 + index % 5)
    assert each.is_done
    answer = each.log[each.answer_start :]
    assert answer[:3] == start
    assert len(answer) == 3 + 2 * 5


def test_no_period_is_found_in_what_does_not_repeat():
    assert loop_period([index % 7 for index in range(100)]) == 7
    assert not loop_period([index * index % 101 for index in range(100)])
    assert not loop_period([5] * 10)
