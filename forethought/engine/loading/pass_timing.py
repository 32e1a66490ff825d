"""How long a forward pass takes, against the products with its weights alone.

A pass over few tokens cannot be faster than its weights arrive from memory. How long that takes
depends on the machine and on what else it does at the moment, so the floor is measured in turns
with the pass: the same products on the same weights in the same order, with nothing between them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import nn
from torch.nn import functional

from forethought.engine.cache.available_memory import available_memory
from forethought.engine.cache.kv_memory import in_words
from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack
from forethought.errors import NotEnoughMemoryError

_BYTES_OF_A_LOGIT = 4


@dataclass(frozen=True, slots=True)
class PassShape:
    """What a pass computes: T tokens for each of some sequences, all of them scored."""

    num_tokens: int  # T, of each sequence
    batch_size: int
    context: int  # tokens before these, of each sequence


@dataclass(frozen=True, slots=True)
class PassTime:
    """Milliseconds of one pass and of its floor, medians over the repeats."""

    shape: PassShape
    pass_ms: float
    floor_ms: float
    pass_quartile_ms: float  # a quarter of the passes were faster: less disturbed than the median
    floor_quartile_ms: float

    @property
    def ratio(self) -> float:
        """Pass over floor; 1 is what the hardware allows."""
        return self.pass_ms / self.floor_ms

    @property
    def tokens_per_s(self) -> float:
        """Tokens scored a second."""
        return self.shape.num_tokens * self.shape.batch_size / self.pass_ms * 1000


def time_passes(
    model: CausalModel,
    shapes: Sequence[PassShape],
    num_repeats: int,
    on_turn: Callable[[], None] = lambda: None,
) -> list[PassTime]:
    """Times passes and floors in turns. Takes over the model's cache.

    Args:
        model: a lean decoder or a transformers model.
        shapes: what to time.
        num_repeats: turns of each, at least 2.
        on_turn: called after each turn, for progress.

    Raises:
        NotEnoughMemoryError: a pass needs more than there is.
    """
    return [_time(model, shape, num_repeats, on_turn) for shape in shapes]


@torch.inference_mode()
def _time(
    model: CausalModel, shape: PassShape, num_repeats: int, on_turn: Callable[[], None]
) -> PassTime:
    packed = _fill(model, shape)
    floor = _floor(model, shape.num_tokens * shape.batch_size)
    device = device_of(model)
    times: dict[str, list[float]] = {"pass": [], "floor": []}
    for turn in range(num_repeats + 1):
        for name, run in (("pass", lambda: model.forward(packed)), ("floor", floor)):
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first ones are for warming up
                times[name].append((time.perf_counter() - started) * 1000)
        on_turn()
    return PassTime(
        shape,
        median(times["pass"]),
        median(times["floor"]),
        quantiles(times["pass"])[0],
        quantiles(times["floor"])[0],
    )


def _fill(model: CausalModel, shape: PassShape) -> PackedPass:
    """A cache that holds the context of each sequence, and the pass after it."""
    blocks_each = -(-(shape.context + shape.num_tokens) // BLOCK_LEN)
    device = device_of(model)
    _check_memory(model, shape, blocks_each * shape.batch_size * model.kv_bytes_per_block)
    model.allocate(blocks_each * shape.batch_size)
    parts = []
    for index in range(shape.batch_size):
        blocks = range(index * blocks_each, (index + 1) * blocks_each)
        tokens = [(7 * place + index) % model.vocab_size for place in range(shape.context)]
        if tokens:
            model.forward(pack([SequencePart(tokens, 0, blocks, 0)], device))
        own = [(index + place) % model.vocab_size for place in range(shape.num_tokens)]
        parts.append(SequencePart(own, shape.context, blocks, shape.num_tokens))
    return pack(parts, device)


def _check_memory(model: CausalModel, shape: PassShape, num_kv_bytes: int) -> None:
    num_rows = shape.batch_size * shape.num_tokens
    asked = num_kv_bytes + num_rows * model.vocab_size * _BYTES_OF_A_LOGIT
    available = available_memory(device_of(model))
    if asked > available:
        raise NotEnoughMemoryError(
            f"{shape.batch_size:,} sequences of {shape.context + shape.num_tokens:,} tokens take "
            f"{in_words(asked)}, and {in_words(available)} of memory are available; lower --batch, "
            "--tokens or --context"
        )


def _floor(model: CausalModel, num_rows: int) -> Callable[[], None]:
    """All products of a pass over so many tokens."""
    products: list[tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]]
    if isinstance(model, LeanDecoder):
        products = [
            (linear, torch.ones(num_rows, linear.num_inputs, dtype=linear.dtype))
            for linear in model.products()
        ]
    elif isinstance(model, TransformersModel):
        products = [
            (_product(module), torch.ones(num_rows, module.in_features).to(module.weight))
            for module in model.linear_modules()
        ]
    else:
        raise TypeError(f"no floor is known for {type(model).__name__}")

    def run() -> None:
        for multiply, x in products:
            multiply(x)

    return run


def _product(module: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: functional.linear(x, module.weight, module.bias)
