"""How a model's author suggests to sample from it."""

import json

import gguf
import pytest

from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from forethought.models.generation_defaults import GenerationDefaults


def read(folder, **stated) -> GenerationDefaults:
    (folder / "generation_config.json").write_text(json.dumps(stated))
    return GenerationDefaults.read(ModelFiles("m", folder, None))


def test_what_generation_config_states_is_taken_whatever_do_sample_says(tmp_path):
    stated = {
        "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.05,
        "max_new_tokens": 2048, "do_sample": False, "eos_token_id": 2,
    }  # fmt: skip
    assert read(tmp_path, **stated) == GenerationDefaults(0.7, 20, 0.8, 0.1, 1.05, 2048)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"temperature": None, "top_k": None, "max_new_tokens": None},
        {"top_k": 0, "max_new_tokens": 0},
        {"top_k": -1},
        {"temperature": "0.7", "top_p": True},
    ],
)
def test_what_is_not_stated_changes_nothing(tmp_path, stated):
    assert read(tmp_path, **stated) == GenerationDefaults()


@pytest.mark.parametrize("many", [2**70, 10**400, float("inf")], ids=["2**70", "10**400", "inf"])
def test_more_tokens_than_a_request_can_ask_for_are_as_many_as_it_can(tmp_path, many):
    defaults = read(tmp_path, top_k=many, max_new_tokens=many)
    assert defaults == GenerationDefaults(top_k=2**31 - 1, max_tokens=2**31 - 1)


def test_a_model_without_the_file_changes_nothing(tmp_path):
    assert GenerationDefaults.read(ModelFiles("m", tmp_path, None)) == GenerationDefaults()


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"min_p": 2}, "min_p"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": -(10**400)}, "top_p"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_file_and_the_way_out(tmp_path, stated, complaint):
    with pytest.raises(ModelReferenceError, match=rf"generation_config\.json.*{complaint}.*none"):
        read(tmp_path, **stated)


def test_a_gguf_file_states_them_by_its_own_keys(tmp_path):
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_float32("general.sampling.temp", 0.5)
    writer.add_int32("general.sampling.top_k", 40)
    writer.add_float32("general.sampling.top_p", 0.75)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert GenerationDefaults.read(ModelFiles("m", tmp_path, path)) == GenerationDefaults(
        0.5, 40, 0.75
    )
