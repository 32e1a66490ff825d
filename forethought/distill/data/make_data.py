"""Stage (a): the data, shard by shard, from where it was left."""

from collections.abc import Callable

from forethought.distill.data.generator import DataOptions, Generator
from forethought.distill.data.prompts import Prompts
from forethought.distill.data.shards import ShardFolder
from forethought.engine.model.causal_model import CausalModel


def make_data(
    shards: ShardFolder,
    make_target: Callable[[], CausalModel],
    prompts: Prompts,
    options: DataOptions,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> int:
    """Makes the shards that are missing; returns the number of tokens of all.

    Args:
        shards: where complete ones are, and go.
        make_target: loads it. Not called if nothing is missing.
        prompts: what samples begin with.
        options: what to make.
        on_tokens: told of tokens that are there already, and as they are computed.
    """
    sizes = [samples.num_tokens for samples in shards.samples()]
    for size in sizes:
        on_tokens(size)
    generator: Generator | None = None
    while sum(sizes) < options.num_tokens:
        generator = generator or Generator(make_target(), prompts, options)
        samples, outputs = generator.shard(len(sizes), on_tokens)
        shards.write(len(sizes), samples, outputs)
        sizes.append(samples.num_tokens)
    return sum(sizes)
