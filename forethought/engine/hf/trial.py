"""Whether a model of transformers says over our blocks what it says by itself.

Not every model attends to nothing but the tokens before, in a way that is known here, so each is
tried when it is loaded. Two sequences go through in pieces, side by side, and their logits are held
against those of transformers alone. What reaches far back shows only in texts that are longer: a
window is shortened to a few tokens for the trial, in the configuration and wherever a module
keeps it, for both sides alike. Then a longer text follows, in which a window by another name shows,
and which is longer than every known one as far as it costs about a second.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
import torch
from transformers import PreTrainedModel

from forethought.engine.model.numbers import refuse_what_is_no_number
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack

_NUM_TOKENS = 24
_SHORT_WINDOW = 6
_MORE_THAN_A_WINDOW = 24  # tokens
_LONG, _LONGEST = 256, 2048  # tokens
_MAX_COST = 5e10  # parameters times tokens: about a second on two cores
_MOST_OF_ONE_THREAD = 1_000_000_000  # parameters
_IS_WINDOW = re.compile(r"(?<!max_)window(?!_pattern)|attention_chunk|local_attention|topk_tokens")
_TOLERANCES = {torch.float32: 1e-3}
_ROUGH_TOLERANCE = 0.05  # relative error of 8 to 11 bits, after all layers

Forward = Callable[[PackedPass], torch.Tensor]
"""A pass over a pool, without the checks of its results."""

_log = structlog.get_logger(__name__)


class OwnLogits:
    """What the model says by itself, noted before it attends over blocks."""

    def __init__(self, model: PreTrainedModel, max_model_len: int) -> None:
        self._model: Any = model
        self._vocab_size = int(model.get_input_embeddings().weight.shape[0])
        config = model.config.get_text_config()
        windows = [value for value in _windows(config).values() if value < max_model_len]
        num_tokens = min(_NUM_TOKENS, max_model_len)
        self._short = [self.text(num_tokens, seed) for seed in (1, 2)]
        with short_windows(model):
            self._expected = [self._logits(text) for text in self._short]
        self._refuse_if_not_a_decoder()
        self._long: Sequence[int] = ()
        self._try_long(max(windows, default=0), max_model_len)

    @property
    def vocab_size(self) -> int:
        """V."""
        return int(self._expected[0].shape[-1])

    def text(self, num_tokens: int, seed: int) -> list[int]:
        """Tokens that every vocabulary has, ever other ones."""
        size = min(self._vocab_size, 1000)
        return [(seed * 7 + 31 * index + index * index // 5) % size for index in range(num_tokens)]

    def check(self, forward: Forward, allocate: Callable[[int], None]) -> None:
        """Holds passes over a pool against it.

        Args:
            forward: the same model, over a pool.
            allocate: makes a pool of so many blocks.

        Raises:
            ValueError: it says something else.
        """
        with short_windows(self._model):
            in_pieces = self._in_pieces(forward, allocate)
        for expected, found in zip(self._expected, in_pieces, strict=True):
            self._compare(expected, found)
        if self._long:
            num_blocks = -(-len(self._long) // BLOCK_LEN)
            allocate(num_blocks)
            cut = len(self._long) - _MORE_THAN_A_WINDOW // 2
            blocks = range(num_blocks)[::-1]
            parts = [
                SequencePart(self._long[:cut], 0, blocks, _MORE_THAN_A_WINDOW // 2),
                SequencePart(self._long[cut:], cut, blocks, _MORE_THAN_A_WINDOW // 2),
            ]
            rows = [forward(self._pack([part])) for part in parts]
            self._compare(self._expected_long, torch.cat(rows))

    def _in_pieces(
        self, forward: Forward, allocate: Callable[[int], None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both texts: the one in two passes, the other in three, beside it."""
        first, second = self._short
        allocate(4)
        a, b, num_tokens = (2, 0), (3, 1), len(first)
        late, early = num_tokens - num_tokens // 5, num_tokens // 3
        one, two, three = (
            [SequencePart(first[:late], 0, a, late), SequencePart(second[:early], 0, b, early)],
            [
                SequencePart(second[early : early + 1], early, b, 1),
                SequencePart(first[late:], late, a, num_tokens - late),
            ],
            [SequencePart(second[early + 1 :], early + 1, b, num_tokens - early - 1)],
        )
        rows = [forward(self._pack(parts)) for parts in (one, two, three)]
        return (
            torch.cat((rows[0][:late], rows[1][1:])),
            torch.cat((rows[0][late:], rows[1][:1], rows[2])),
        )

    def _try_long(self, window: int, max_model_len: int) -> None:
        """Notes a text that goes beyond the longest window, or as far as it takes no longer than a
        second."""
        wanted = min(max(window + _MORE_THAN_A_WINDOW, _LONG), max_model_len)
        affordable = int(min(_MAX_COST / self._model.num_parameters(), _LONGEST))
        num_tokens = min(wanted, affordable)
        if num_tokens > _NUM_TOKENS + _MORE_THAN_A_WINDOW:
            self._long = self.text(num_tokens, 3)
            self._expected_long = self._logits(self._long)[-_MORE_THAN_A_WINDOW:]
        if num_tokens < wanted and window:
            free = self._logits(self._short[0])
            if torch.equal(free, self._expected[0]):
                _log.warning("window_not_tried", window=window, num_tokens=num_tokens)

    def _refuse_if_not_a_decoder(self) -> None:
        text, expected = self._short[0], self._expected[0]
        dtype_name = str(self._model.dtype).removeprefix("torch.")
        refuse_what_is_no_number(torch.stack(self._expected), dtype_name)
        half = len(text) // 2
        with short_windows(self._model):
            before = self._logits(text[:half])
        if self._error(expected[:half], before) > self._tolerance:
            raise ValueError(
                "what it says of a text depends on what comes behind: it is no decoder, but fills "
                "gaps or embeds texts"
            )

    def _compare(self, expected: torch.Tensor, found: torch.Tensor) -> None:
        error = self._error(expected, found)
        if not error <= self._tolerance:
            raise ValueError(
                "the model attends in a way that this engine does not know: with attention over "
                f"blocks its logits are {error:.2g} away from its own"
            )

    @property
    def _tolerance(self) -> float:
        return _TOLERANCES.get(self._model.dtype, _ROUGH_TOLERANCE)

    def _error(self, expected: torch.Tensor, found: torch.Tensor) -> float:
        """Relative. Of the middle row where numbers are rough: a token close to a border goes to
        another expert then, and its row says nothing."""
        if self._model.dtype == torch.float32:
            return float((found - expected).norm() / expected.norm())
        return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).median())

    def _logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        """[T, V] float32, in one pass without a cache."""
        ids = torch.tensor([token_ids], device=self._model.device)
        logits: torch.Tensor = self._model(input_ids=ids, use_cache=False).logits[0]
        return logits.float()

    def _pack(self, parts: Sequence[SequencePart]) -> PackedPass:
        return pack(parts, self._model.device)


@contextmanager
def one_thread_for_small_models(model: PreTrainedModel) -> Iterator[None]:
    """On a busy machine the threads of a short operation wait for each other far longer than they
    compute: with nine programs on two cores a trial took a minute, and takes seconds on one."""
    num_threads = torch.get_num_threads()
    if model.device.type != "cpu" or model.num_parameters() > _MOST_OF_ONE_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def short_windows(model: PreTrainedModel) -> Iterator[None]:
    """Every window is a few tokens long meanwhile."""
    holders = {id(each): each for each in _holders(model)}.values()
    changed = [(holder, name, old) for holder in holders for name, old in _windows(holder).items()]
    for holder, name, _ in changed:
        setattr(holder, name, _SHORT_WINDOW)
    try:
        yield
    finally:
        for holder, name, old in changed:
            setattr(holder, name, old)


def _holders(model: PreTrainedModel) -> Iterator[Any]:
    yield model.config
    yield model.config.get_text_config()
    for module in model.modules():
        yield module
        if hasattr(module, "config"):
            yield module.config


def _windows(holder: Any) -> dict[str, int]:
    """Its windows, by the names of the attributes, as far as they are longer than the short one."""
    return {
        name: value
        for name, value in vars(holder).items()
        if type(value) is int and value > _SHORT_WINDOW and _IS_WINDOW.search(name)
    }
