"""Stage (d): the folder that the draft service loads."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from forethought.distill.drafts.feature_draft import FeatureDraft
from forethought.distill.drafts.llama_draft import LlamaDraft
from forethought.distill.drafts.target_weights import TargetWeights
from forethought.distill.samples.vocabulary import DraftVocabulary
from forethought.engine.weights.lean_tensors import HEAD_ROW_IDS
from forethought.models.feature_draft import MODEL_TYPE
from forethought.models.files.fingerprint import model_fingerprint
from forethought.models.files.reference import ModelFiles
from forethought.models.text.tokenizer import TextTokenizer

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


@dataclass(frozen=True, slots=True)
class Source:
    """What a draft was made from."""

    files: ModelFiles
    tokenizer: TextTokenizer
    weights: TargetWeights

    @property
    def names(self) -> dict[str, str]:
        """What tells the target from others."""
        return {
            "name": self.files.reference,
            "model_fingerprint": model_fingerprint(self.files),
            "vocabulary_fingerprint": self.tokenizer.fingerprint,
        }


def write_folder(
    folder: Path,
    draft: FeatureDraft | LlamaDraft,
    vocabulary: DraftVocabulary,
    source: Source,
    card: str,
) -> None:
    """Writes config.json, model.safetensors in float16 and README.md, and for a draft that is a
    model of its own also the tokenizer.

    Args:
        folder: made if it is not there; files in it are replaced.
        draft: trained.
        vocabulary: of the draft.
        source: what it was made from.
        card: the text of README.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().contiguous() for name, value in draft.tensors().items()}
    config = _shared_config(draft, source.weights)
    is_feature_draft = isinstance(draft, FeatureDraft)
    if is_feature_draft or not vocabulary.is_whole:
        tensors[HEAD_ROW_IDS] = vocabulary.token_ids
        config["draft_vocab_size"] = len(vocabulary)
    if is_feature_draft:
        config |= {"model_type": MODEL_TYPE, "target": source.names}
    else:
        config |= _llama_config(source)
        _write_tokenizer(folder, source)
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, {"format": "pt"})
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(card)


def _shared_config(draft: FeatureDraft | LlamaDraft, target: TargetWeights) -> dict[str, Any]:
    shape: Any = draft.layers[0].self_attn
    shape = shape.shape
    return {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": len(draft.layers),
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_theta": shape.rope_theta,
        "vocab_size": target.config.vocab_size,
        "tie_word_embeddings": draft.ties_embeddings,
    }


def _llama_config(source: Source) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "dtype": str(torch.float16).removeprefix("torch."),
        "hidden_act": "silu",
        "max_position_embeddings": source.weights.config.max_model_len,
        "eos_token_id": sorted(source.tokenizer.eos_token_ids),
    }


def _write_tokenizer(folder: Path, source: Source) -> None:
    if source.files.gguf is not None:
        source.tokenizer.save(folder / "tokenizer.json")
        return
    for name in _TOKENIZER_FILES:
        path = source.files.folder / name
        if path.exists():
            shutil.copyfile(path, folder / name)
