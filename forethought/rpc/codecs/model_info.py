"""What a tier says of its model, to messages and back."""

from forethought.tier import HiddenStatesNeed, ModelInfo, PassCost
from forethought.v1 import common_pb2


def model_to_proto(model: ModelInfo) -> common_pb2.ModelInfo:
    return common_pb2.ModelInfo(
        name=model.name,
        model_fingerprint=model.model_fingerprint,
        vocabulary_fingerprint=model.vocabulary_fingerprint,
        vocab_size=model.vocab_size,
        max_model_len=model.max_model_len,
        dtype=model.dtype,
        device=model.device,
        max_num_speculative_tokens=model.max_num_speculative_tokens,
        pass_costs=[
            common_pb2.PassCost(num_tokens=cost.num_tokens, forward_ns=cost.forward_ns)
            for cost in model.pass_costs
        ],
        weights_fingerprint=model.weights_fingerprint,
        hidden_size=model.hidden_size,
        hidden_states_need=need_to_proto(model.hidden_states_need),
        version=model.version,
    )


def model_from_proto(message: common_pb2.ModelInfo) -> ModelInfo:
    return ModelInfo(
        name=message.name,
        model_fingerprint=message.model_fingerprint,
        vocabulary_fingerprint=message.vocabulary_fingerprint,
        vocab_size=message.vocab_size,
        max_model_len=message.max_model_len,
        dtype=message.dtype,
        device=message.device,
        max_num_speculative_tokens=message.max_num_speculative_tokens,
        pass_costs=tuple(PassCost(cost.num_tokens, cost.forward_ns) for cost in message.pass_costs),
        weights_fingerprint=message.weights_fingerprint,
        hidden_size=message.hidden_size,
        hidden_states_need=need_from_proto(message.hidden_states_need)
        if message.HasField("hidden_states_need")
        else None,
        version=message.version,
    )


def need_to_proto(need: HiddenStatesNeed | None) -> common_pb2.HiddenStatesNeed | None:
    if need is None:
        return None
    return common_pb2.HiddenStatesNeed(
        target_fingerprint=need.target_fingerprint, hidden_size=need.hidden_size
    )


def need_from_proto(message: common_pb2.HiddenStatesNeed) -> HiddenStatesNeed:
    return HiddenStatesNeed(message.target_fingerprint, message.hidden_size)
