import pytest
import torch

from forethought.distill.data.rows import draw_tokens, top_entries


@pytest.mark.parametrize("vocab_size", [16, 37, 1000])
def test_top_entries_are_those_of_a_sort(vocab_size: int):
    logits = torch.randn(5, vocab_size, generator=torch.Generator().manual_seed(1))
    ids, logprobs = top_entries(logits, 12)
    expected = logits.log_softmax(dim=-1).topk(12)
    assert torch.equal(ids.long(), expected.indices)
    torch.testing.assert_close(logprobs, expected.values)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_spread_over_the_unit_interval_follow_the_distribution(temperature: float):
    logits = torch.randn(1, 37, generator=torch.Generator().manual_seed(2)) * 2
    num_draws = 20_000
    uniforms = [(index + 0.5) / num_draws for index in range(num_draws)]
    tokens = draw_tokens(logits.expand(num_draws, -1), [temperature] * num_draws, uniforms)
    shares = torch.bincount(tokens, minlength=37) / num_draws
    torch.testing.assert_close(
        shares, (logits[0] / temperature).softmax(dim=-1), atol=37 / num_draws, rtol=0
    )


def test_temperature_zero_takes_the_likeliest_token_beside_rows_that_are_sampled():
    logits = torch.randn(4, 37, generator=torch.Generator().manual_seed(3))
    tokens = draw_tokens(logits, [0, 1, 0, 1], [0.9] * 4)
    assert torch.equal(tokens[[0, 2]], logits.argmax(dim=-1)[[0, 2]])


def test_a_draw_of_almost_one_never_leads_to_a_token_without_probability():
    logits = torch.full((1, 37), -torch.inf)
    logits[0, [3, 20]] = 0.0
    (token,) = draw_tokens(logits, [1.0], [1 - 2.0**-53]).tolist()
    assert token in {3, 20}
