"""Files that are cut, missing, pointers or of another kind: the refusal names the cause."""

import json
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.errors import ModelReferenceError
from forethought.models.files.gguf_header import read_gguf_metadata
from forethought.models.files.reference import ModelFiles, resolve
from tests.engine.test_loader import TOKENS, write_gguf
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

F32 = gguf.GGMLQuantizationType.F32
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n"


def load(reference: Path) -> torch.Tensor:
    files = resolve(str(reference))
    return whole_pass(load_model(files, EngineOptions(device="cpu")), TOKENS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model", vocab_size=40)


@pytest.fixture
def gguf_file(folder: Path, tmp_path: Path) -> Path:
    """Alone in its folder."""
    path = tmp_path / "gguf" / "model.gguf"
    path.parent.mkdir()
    return write_gguf(folder, F32).rename(path)


def split_in_two(path: Path) -> tuple[Path, Path]:
    """The same model in two files, as llama.cpp splits them."""
    whole = gguf.GGUFReader(path)
    parts = [path.with_name(f"model-0000{number}-of-00002.gguf") for number in (1, 2)]
    tensors = [it for it in whole.tensors if "blk.1" not in it.name]
    tensors = [tensors, [it for it in whole.tensors if "blk.1" in it.name]]
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(whole.tensors))
        for key, field in whole.fields.items() if number == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                sub_type = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(key, field.contents(), field.types[0], sub_type)
        for tensor in tensors[number]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    path.unlink()
    return parts[0], parts[1]


@pytest.mark.parametrize("named", ["first", "second", "folder"])
def test_a_gguf_file_in_parts_is_one_model_whatever_is_named(gguf_file, named):
    expected = load(gguf_file)
    first, second = split_in_two(gguf_file)
    assert torch.equal(
        load({"first": first, "second": second, "folder": first.parent}[named]), expected
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_a_part_that_is_not_there_is_named(gguf_file, missing):
    parts = split_in_two(gguf_file)
    parts[missing].unlink()
    with pytest.raises(ModelReferenceError, match=rf"lacks {parts[missing].name}.* 2 files"):
        load(parts[0].parent)


def test_a_part_under_another_name_is_said_to_be_a_part(gguf_file):
    first, _ = split_in_two(gguf_file)
    with pytest.raises(ModelReferenceError, match="one of 2 parts"):
        load(first.rename(first.with_name("model.gguf")))


@pytest.mark.parametrize("name", ["MODEL.GGUF", "sha256-0123456789abcdef"])
def test_a_gguf_file_is_known_by_how_it_begins_and_by_its_name_in_capitals(gguf_file, name):
    expected = load(gguf_file)
    assert torch.equal(load(gguf_file.rename(gguf_file.with_name(name))), expected)


def test_a_file_that_encodes_images_does_not_hide_the_model_beside_it(gguf_file):
    expected = load(gguf_file)
    (gguf_file.parent / "mmproj-model-f16.gguf").write_bytes(b"GGUF")
    assert torch.equal(load(gguf_file.parent), expected)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_git_lfs_pointer_is_said_to_be_one(folder, name):
    (folder / name).write_bytes(POINTER)
    with pytest.raises(ModelReferenceError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        load(folder)


def test_a_gguf_file_that_is_a_git_lfs_pointer_is_said_to_be_one(gguf_file):
    gguf_file.write_bytes(POINTER)
    for read in (load, read_gguf_metadata):
        with pytest.raises(ModelReferenceError, match="Git LFS pointer"):
            read(gguf_file)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_file_that_is_cut_short_is_said_to_be_so(folder, gguf_file, kind, share):
    path = gguf_file if kind == "gguf" else folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelReferenceError, match=r"cut short|bytes are announced|it ends inside"):
        load(gguf_file if kind == "gguf" else folder)


@pytest.mark.parametrize("offsets", [[], [0], ["a", "b"], [0, float("inf")], [0, 0.5], [0, [1]]])
def test_a_header_whose_places_are_no_numbers_is_no_safetensors(folder, offsets):
    path = folder / "model.safetensors"
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": offsets}
    header = json.dumps({"lm_head.weight": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(ModelReferenceError, match="not a safetensors file"):
        load(folder)


def test_weights_that_are_something_else_are_no_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"<html>not found</html>" * 9)
    with pytest.raises(ModelReferenceError, match="not a safetensors file"):
        load(folder)


def test_a_shard_that_the_index_names_and_is_not_there_is_named(folder, tmp_path):
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelReferenceError, match=rf"lacks {shard.name}"):
        load(tmp_path)


def test_other_safetensors_beside_those_of_the_model_are_left_alone(folder):
    expected = load(folder)
    for name in ("consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors"):
        (folder / name).write_bytes(b"anything")
    assert torch.equal(load(folder), expected)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["config.json", "pytorch_model.bin"], r"pickled weights, pytorch_model\.bin.*convert"),
        (["model.safetensors"], r"neither config\.json nor"),
        (["snapshots/main/config.json"], "name org/name instead"),
    ],
)
def test_a_folder_that_is_not_a_model_yet_is_told_what_to_do(tmp_path, names, complaint):
    for name in names:
        path = tmp_path / "models--org--name" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    with pytest.raises(ModelReferenceError, match=complaint):
        resolve(str(tmp_path / "models--org--name"))


def test_an_adapter_is_refused_with_the_name_of_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"anything")
    with pytest.raises(ModelReferenceError, match=r"adapter of org/base.*merge"):
        resolve(str(tmp_path))


def test_a_part_of_a_folder_is_answered_with_the_folder(folder):
    with pytest.raises(ModelReferenceError, match="name its folder instead"):
        resolve(str(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "classifier or reward model"),
        ({"architectures": ["BertForMaskedLM"]}, "masked language model"),
        ({"architectures": ["LlamaModel"]}, "without a head"),
        ({"architectures": 5}, "architectures is 5, which is no list"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder"),
        (
            {
                "architectures": ["OwnForCausalLM"],
                "model_type": "own",
                "auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"},
            },
            "'own' needs code of its own.*is not run here",
        ),
        ({"model_type": "of-next-year"}, "does not know the model type 'of-next-year'"),
    ],
)
def test_a_model_of_another_kind_is_refused_in_words(folder, change, complaint):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelReferenceError, match=complaint):
        load_model(ModelFiles("it", folder, None), EngineOptions(device="cpu"))


@pytest.mark.parametrize("family", ["llama", "olmo2"])
@pytest.mark.parametrize("method", ["gptq", "of-next-year"])
def test_quantised_weights_are_refused_with_the_method(tmp_path, family, method):
    folder = write_tiny_model(tmp_path, architecture=family)
    path = folder / "config.json"
    quantised = {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 128}}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantised))
    with pytest.raises(ModelReferenceError, match=f"quantised with {method}"):
        load(folder)


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_weights_whose_scales_nobody_would_apply_are_refused(tmp_path, family):
    folder = write_tiny_model(tmp_path, architecture=family)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelReferenceError, match=r"up_proj\.weight is stored in F8_E4M3"):
        load(folder)


def test_an_embedding_model_with_a_head_is_refused(folder):
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ModelReferenceError, match="embedding model"):
        load(folder)


def in_two(folder: Path, *, index: bool = True) -> list[Path]:
    """Writes the weights as two files, as transformers does."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = [folder / f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    for part, kept in zip(parts, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in kept}, part, {"format": "pt"})
    if index:
        where = {name: parts[place % 2].name for place, name in enumerate(names)}
        text = json.dumps({"metadata": {}, "weight_map": where})
        (folder / "model.safetensors.index.json").write_text(text)
    (folder / "model.safetensors").unlink()
    return parts


def test_parts_without_an_index_are_all_there_or_the_missing_one_is_named(folder):
    expected = load(folder)
    parts = in_two(folder, index=False)
    assert torch.equal(load(folder), expected)
    parts[0].unlink()
    with pytest.raises(ModelReferenceError, match=rf"lacks {parts[0].name}: .* in 2 files"):
        load(folder)


def test_weights_that_transformers_would_not_find_are_named(tmp_path):
    folder = write_tiny_model(tmp_path, architecture="olmo2", pad_token_id=0)
    parts = in_two(folder, index=False)
    with pytest.raises(ModelReferenceError, match=f"in {parts[0].name}, .* there is no .*index"):
        load(folder)


def test_an_index_that_says_nothing_is_named(folder):
    in_two(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelReferenceError, match=r"index.json does not say which tensors"):
        load(folder)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [("folder", "is a folder, not a file"), ("link", "lacks model.safetensors; .* a link")],
)
def test_something_else_in_the_place_of_the_weights_is_said_to_be_so(folder, kind, complaint):
    path = folder / "model.safetensors"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "nowhere")
    with pytest.raises(ModelReferenceError, match=complaint):
        load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hidden_size": "32"}, "config.json: Field 'hidden_size' expected int"),
        ({"num_attention_heads": 3}, r"config.json: The hidden size \(32\) is not a multiple"),
        ({"model_type": None}, "names no model_type"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": -2.0}}, "= -2.0"),
        (
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "factor": 2.0,
                    "short_factor": [1.0, 1.0, 1.0],
                    "long_factor": [2.0, 1.0, 1.0],
                    "original_max_position_embeddings": 8,
                }
            },
            "positions cannot be computed from its settings",
        ),
    ],
)
def test_a_configuration_that_does_not_go_together_is_said_to_be_so(folder, change, complaint):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelReferenceError, match=complaint):
        load(folder)
