"""Tokens and ends of turns that stand in the files around tokenizer.json."""

import json

import pytest
import structlog
from gguf.vocab import bytes_to_unicode
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from forethought.errors import ModelReferenceError
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

PLAIN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
SPECIAL = PLAIN | {"special": True}
TEXT = "a<|im_start|>user\nHi<|im_end|> b</s><think> c [PAD]"
SIZE = 257  # bytes and </s>


@pytest.fixture
def folder(tmp_path):
    """A byte-level tokenizer.json whose only special token is </s>."""
    vocabulary = {token: token_id for token_id, token in enumerate(bytes_to_unicode().values())}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("</s>", normalized=False, special=True)])
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def load(folder, **files) -> TextTokenizer:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return load_tokenizer(resolve(str(folder), with_weights=False))


def token(content, **flags):
    return {"content": content, **SPECIAL, **flags}


DECODER = {"257": token("<|im_start|>"), "258": token("<|im_end|>")}
FOLDERS = {
    "decoder": {"tokenizer_config": {"added_tokens_decoder": DECODER, "eos_token": "<|im_end|>"}},
    "settings win": {
        "tokenizer_config": {
            "added_tokens_decoder": {"256": token("</s>", lstrip=True), **DECODER},
        }
    },
    "added_tokens.json": {"added_tokens": {"<|im_end|>": 258, "<|im_start|>": 257}},
    "legacy": {
        "added_tokens": {"<|im_end|>": 258, "<|im_start|>": 257, "</s>": 256},
        "special_tokens_map": {"eos_token": token("<|im_end|>"), "pad_token": "[PAD]"},
        "tokenizer_config": {"eos_token": "</s>"},
    },
    "named": {"tokenizer_config": {"pad_token": "[PAD]", "eos_token": "<|im_end|>"}},
    "extra list": {"tokenizer_config": {"extra_special_tokens": ["<think>", "<|im_end|>"]}},
    "extra objects": {
        "tokenizer_config": {
            "added_tokens_decoder": DECODER,
            "additional_special_tokens": ["<think>"],
        }
    },
    "extra names": {"tokenizer_config": {"extra_special_tokens": {"think_token": "<think>"}}},
}


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_every_file_gives_the_tokens_that_it_gives_in_transformers(folder, files):
    transformers = pytest.importorskip("transformers")
    ours = load(folder, **files)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert ours.encode(TEXT, add_special_tokens=False) == theirs.encode(
        TEXT, add_special_tokens=False
    )


def test_a_token_behind_a_gap_keeps_its_id(folder):
    ours = load(
        folder,
        tokenizer_config={
            "added_tokens_decoder": {"300": token("<|im_end|>"), "400": token("<x>")}
        },
    )
    assert ours.encode("a<x><|im_end|>", add_special_tokens=False)[1:] == [400, 300]
    assert 300 in ours.eos_token_ids
    assert (ours.vocab_size, ours.has_text(400)) == (401, False)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"tokenizer_config": {"added_tokens_decoder": {"3": token("<x>")}}}, "'<x>'.* 3,"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": token("<x>")}}}, "added_tokens_deco"),
        ({"tokenizer_config": {"added_tokens_decoder": {"300": "<x>", "301": 5}}}, "no token"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "added_tokens_decoder"),
        ({"tokenizer_config": {"added_tokens_decoder": {"-5": token("<x>")}}}, "-5 is no id"),
        ({"added_tokens": {"<x>": "300"}}, r"added_tokens\.json"),
        ({"added_tokens": {"<x>": 300, "<y>": 300}}, "same id"),
        ({"special_tokens_map": ["</s>"]}, r"special_tokens_map\.json"),
    ],
)
def test_tokens_that_contradict_each_other_are_refused_by_their_file(folder, files, complaint):
    with pytest.raises(ModelReferenceError, match=complaint):
        load(folder, **files)


@pytest.mark.parametrize("config", [{"vocab_size": 258}, {"text_config": {"vocab_size": 258}}])
def test_tokens_and_ends_beyond_the_models_vocabulary_are_left_out_and_logged(folder, config):
    with structlog.testing.capture_logs() as logs:
        ours = load(
            folder,
            config=config,
            tokenizer_config={"added_tokens_decoder": DECODER, "pad_token": "[PAD]"},
            generation_config={"eos_token_id": [256, 9999]},
        )
    assert ours.vocab_size == 258
    assert ours.eos_token_ids == {256}
    assert [log["event"] for log in logs] == [
        "tokens_beyond_the_vocabulary",
        "end_tokens_beyond_the_vocabulary",
    ]
    assert logs[0]["tokens"] == {"<|im_end|>": 258, "[PAD]": 258}


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, {256}),  # by its name
        ({"generation_config": {"eos_token_id": [7, 9]}}, {256, 7, 9}),
        ({"generation_config": {"eos_token_id": None}, "config": {"eos_token_id": 7}}, {256, 7}),
        ({"generation_config": {"eos_token_id": 9}, "config": {"eos_token_id": 7}}, {256, 9}),
        ({"config": {"text_config": {"eos_token_id": [7]}}}, {256, 7}),
        ({"generation_config": {"eos_token_id": [True, "9", -1, 2.0, [3]]}}, {256}),
        ({"tokenizer_config": {"eos_token": "<x>"}}, {256, 257}),
        ({"tokenizer_config": {"eos_token": token("<x>")}}, {256, 257}),
        ({"tokenizer_config": {"eos_token": "a"}}, {256, ord("a")}),
        ({"special_tokens_map": {"eos_token": "<x>"}, "tokenizer_config": {}}, {256, 257}),
        (
            {
                "special_tokens_map": {"eos_token": "<x>"},
                "tokenizer_config": {
                    "eos_token": "<y>",
                    "added_tokens_decoder": {"257": token("<x>")},
                },
                "generation_config": {"eos_token_id": 7},
            },
            {256, 257, 258, 7},
        ),
        ({"added_tokens": {"<end_of_turn>": 257, "<|eot_id|>": 258}}, {256, 257, 258}),
        ({"added_tokens": {"<|end|>": 257, "<|return|>": 258, "<|call|>": 259}}, {256, 258, 259}),
    ],
)
def test_every_end_that_any_file_names_ends_an_answer(folder, files, ends):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    expected = {vocabulary["a"] if end == ord("a") else end for end in ends}
    assert load(folder, **files).eos_token_ids == expected


def test_an_end_is_no_text_although_its_file_does_not_call_it_special(folder):
    ours = load(folder, added_tokens={"<|im_end|>": 257})
    assert not ours.has_text(257)
    assert ours.decode(ours.encode("a<|im_end|>b", add_special_tokens=False)) == "ab"


@pytest.mark.parametrize(
    "config",
    [
        {"extra_special_tokens": {"think_token": "<think>"}},
        {"extra_special_tokens": {"think_token": token("<think>")}},
        {"think_token": "<think>"},
    ],
)
def test_a_template_may_name_every_named_token(folder, config):
    template = "{{ eos_token }}{{ think_token }}{{ messages[0].content }}"
    ours = load(folder, tokenizer_config=config | {"eos_token": "</s>", "chat_template": template})
    assert ours.render_chat([("user", "hi")]) == "</s><think>hi"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_pointer_of_git_lfs_is_told_from_the_file(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(ModelReferenceError, match=rf"{name}: it is a pointer of Git LFS"):
        load(folder)


def test_a_folder_with_another_format_of_tokenizer_names_it(folder):
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelReferenceError, match=r"it has vocab\.json.*AutoTokenizer"):
        load(folder)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": '{"chat_template": {"default": "a", "tool_use": "b"}}'}, "a"),
        ({"chat_template.json": '{"chat_template": "a"}'}, "a"),
        ({"chat_template.jinja": "a", "tokenizer_config.json": '{"chat_template": "b"}'}, "a"),
        (
            {
                "additional_chat_templates/default.jinja": "a",
                "additional_chat_templates/tool_use.jinja": "b",
            },
            "a",
        ),
        ({"tokenizer_config.json": '{"chat_template": {"x": "a", "y": "b"}}'}, None),
    ],
)
def test_the_default_template_is_found_wherever_it_is(folder, files, expected):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    ours = load(folder)
    assert (ours.render_chat([("user", "hi")]) if ours.has_chat_template else None) == expected
