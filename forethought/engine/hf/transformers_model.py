"""Any causal language model of transformers, through its own code with our attention and cache.

Its modelling code computes everything but attention, which it looks up by name (transformers'
`AttentionInterface`). Under our name it finds a function that puts keys and values into the pool
and lets each sequence of the pass look at its own. The model sees one row of tokens, with positions
that start anew for each sequence. Of a mask it gets no more than the window: what else a token may
look at follows from where it stands. Whether that is all that the model needs, a trial shows.
"""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from forethought.engine.hf.trial import OwnLogits, one_thread_for_small_models
from forethought.engine.model.attention import AttentionKind, Context, KVShape, LayerPool
from forethought.engine.model.kv_layout import BlockAccess, KVLayout, Numbers
from forethought.engine.model.packed import PackedPass, SequencePart, pack

_NAME = "forethought"
_LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, AttentionKind], torch.Tensor]
"""Layer, then queries, keys and values [T, heads, D] -> [T, H, value size]."""

_attend: ContextVar[Attend] = ContextVar("attend")


class TransformersModel:
    """`CausalModel` over a loaded transformers model.

    Raises:
        ValueError: the model keeps state besides keys and values, or attends in a way that is not
            known here.
    """

    engine_name = "transformers"

    def __init__(self, model: PreTrainedModel, max_model_len: int) -> None:
        self._model: Any = model
        self._device = torch.device(model.device)
        self._dtype = model.dtype
        self._shapes: dict[int, KVShape] = {}  # of each layer
        self._pools: dict[int, LayerPool] = {}
        self._access = BlockAccess([])
        self.max_model_len = max_model_len
        self.dtype_name = str(model.dtype).removeprefix("torch.")
        self.device_name = str(self._device)
        self.vocab_size = self._try_out()

    @property
    def hidden_size(self) -> int:
        head = self._model.get_output_embeddings()
        return 0 if head is None else int(head.weight.shape[-1])

    def linear_modules(self) -> Iterator[nn.Linear]:
        """All products with weights, about in the order of a pass."""
        return (module for module in self._model.modules() if isinstance(module, nn.Linear))

    @property
    def kv_bytes_per_block(self) -> int:
        return sum(shape.block_bytes(self._dtype) for shape in self._shapes.values())

    @property
    def kv_layout(self) -> KVLayout:
        return KVLayout(self.engine_name, self._dtype, tuple(self._shapes.values()))

    def allocate(self, num_blocks: int) -> None:
        self._pools, self._access = {}, BlockAccess([])  # the old one's memory comes back first
        self._pools = {
            layer: LayerPool.empty(shape, num_blocks, self._dtype, self._device)
            for layer, shape in self._shapes.items()
        }
        self._access = BlockAccess(list(self._pools.values()))

    def read_block(self, block_id: int) -> Numbers:
        return self._access.read(block_id)

    def write_block(self, block_id: int, numbers: Numbers) -> None:
        self._access.write(block_id, numbers)

    @torch.inference_mode()
    def forward(self, packed: PackedPass) -> torch.Tensor:
        return self._run(self._attention(packed), packed, packed.logit_rows)

    @torch.inference_mode()
    def forward_with_states(self, packed: PackedPass) -> tuple[torch.Tensor, torch.Tensor]:
        rows = packed.hidden_rows
        assert rows is not None
        states: list[torch.Tensor] = []
        hook = self._model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs: states.append(inputs[0][0])
        )
        try:
            # The head sees the rows that are only wanted, too: the prompt's, once a session.
            logits = self._run(self._attention(packed), packed, rows.kept)  # [N, V]
        finally:
            hook.remove()
        return logits[rows.scored], states[0][rows.wanted]

    def _attention(self, packed: PackedPass) -> Attend:
        """Over the pool, for one pass."""
        context = Context(packed)

        def attend(
            layer: int,
            queries: torch.Tensor,
            keys: torch.Tensor,
            values: torch.Tensor,
            kind: AttentionKind,
        ) -> torch.Tensor:
            pool = self._pools[layer]
            pool.write(keys, values, packed.slots)
            mixed = [
                context.attend(index, queries, pool, kind) for index in range(len(packed.parts))
            ]
            return torch.cat(mixed)

        return attend

    def _run(self, attend: Attend, packed: PackedPass, rows: torch.Tensor) -> torch.Tensor:
        """The scores of these rows of the pass."""
        packed.on_start()
        token = _attend.set(attend)
        try:
            logits = self._model(
                input_ids=torch.tensor([packed.token_ids], device=self._device),
                position_ids=packed.positions.long()[None],
                use_cache=False,
                logits_to_keep=rows,
            ).logits
        finally:
            _attend.reset(token)
        scored: torch.Tensor = logits[0]  # [R, V]
        return scored.float()

    @torch.inference_mode()
    def _try_out(self) -> int:
        """Learns what the layers keep, and whether our attention does what the model's own does.
        Returns the vocabulary size."""
        refuse_other_state(type(self._model), self._model.config)
        with one_thread_for_small_models(self._model):
            return self._try_attention()

    def _try_attention(self) -> int:
        """Raises ValueError if ours does something else than the model's own."""
        name = self._model.config.model_type
        try:
            own = OwnLogits(self._model, self.max_model_len)
        except ValueError:
            raise
        except Exception as error:  # of the model's code, by settings that do not go together
            raise ValueError(
                f"transformers' own code for {name} cannot run it: {error!r}"
            ) from error
        try:
            self._model.set_attn_implementation(_NAME)
            probe = pack([SequencePart(own.text(2, seed=1), 0, (0,), 1)], self._device)
            self._run(self._learn, probe, probe.logit_rows)
        except ValueError as error:
            raise ValueError(f"the attention of {name} is not known here: {error}") from error
        # Whatever its code stumbles over: it was not written for what it is given here.
        except Exception as error:
            raise ValueError(
                f"transformers' code for {name} does not run over blocks of keys and values: "
                f"{error!r}"
            ) from error
        if not self._shapes:
            raise ValueError(
                f"transformers' code for {name} computes attention on its own, so that it cannot "
                "run over blocks of keys and values"
            )
        own.check(self.forward, self.allocate)
        self._pools, self._access = {}, BlockAccess([])
        return own.vocab_size

    def _learn(
        self,
        layer: int,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """Remembers what a layer keeps of a token, and attends without a pool."""
        self._shapes[layer] = KVShape(keys.shape[1], keys.shape[2], values.shape[2])
        queries, keys, values = (each.transpose(0, 1)[None] for each in (queries, keys, values))
        mixed = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, scale=kind.scale, enable_gqa=True
        )
        return mixed[0].transpose(0, 1)


def refuse_other_state(kind: type, config: Any) -> None:
    """Raises ValueError if a model of this class keeps state besides keys and values: unlike them,
    it cannot be taken back when a guess is rejected."""
    layers = {*(getattr(config.get_text_config(), "layer_types", None) or ())} - _LAYER_KINDS
    if layers or getattr(kind, "_is_stateful", False):
        kinds = ", ".join(sorted(layers)) or "recurrent"
        raise ValueError(
            f"{config.model_type} has layers of a kind that cannot be rolled back when a guess is "
            f"rejected ({kinds}): only attention to all tokens or to a window of them is run"
        )


def _look_up(  # noqa: PLR0913, PLR0917 - as transformers calls it
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' side of attention: [1, heads, T, D] in, [1, T, H, D] out."""
    if position_bias is not None:
        raise ValueError("the model's attention is biased by position, which is not known here")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = attention_mask.window if isinstance(attention_mask, _Mask) else sliding_window
    kind = AttentionKind(scale, window, softcap, s_aux)
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    layer: Any = module
    return _attend.get()(layer.layer_idx, queries, keys, values, kind)[None], None


@dataclass(frozen=True, slots=True)
class _Mask:
    """What stands for a mask: all else follows from positions, sequence by sequence."""

    window: int


def _make_mask(*_: Any, local_size: int | None = None, **__: Any) -> _Mask | None:
    """transformers' side of masks. It says a size where tokens see the latest ones only."""
    return None if local_size is None else _Mask(local_size)


AttentionInterface.register(_NAME, _look_up)
AttentionMaskInterface.register(_NAME, _make_mask)
