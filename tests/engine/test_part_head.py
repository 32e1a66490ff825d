"""A head over a part of the vocabulary."""

import pytest
import torch

from forethought.engine.linear.part_head import PartHead


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_scores_its_tokens_as_the_whole_head_does_and_says_no_other(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(40, 32, generator=generator).to(dtype)
    x = torch.randn(3, 32, generator=generator).to(dtype)
    token_ids = torch.tensor([31, 2, 7, 39, 0], dtype=torch.int32)
    scores = PartHead(whole[token_ids.long()], token_ids, 40)(x)
    expected = torch.full((3, 40), -torch.inf)
    expected[:, token_ids.long()] = (x.float() @ whole.float().T)[:, token_ids.long()]
    torch.testing.assert_close(scores.float(), expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("token_ids", "why"),
    [
        ([0, 1], "2.* token ids for 3 rows"),
        ([0, 1, 8], "beyond a vocabulary of 8"),
        ([0, -1, 2], "beyond a vocabulary of 8"),
        ([0, 1, 1], "not distinct"),
    ],
)
def test_ids_that_do_not_fit_are_refused(token_ids: list[int], why: str):
    with pytest.raises(ValueError, match=why):
        PartHead(torch.zeros(3, 16), torch.tensor(token_ids), 8)
