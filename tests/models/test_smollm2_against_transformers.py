"""SmolLM2 from GGUF against transformers' reading of the same file.

Transformers' GGUF loader leaves out that this vocabulary cuts around every digit, which shows where
spaces meet digits; what the model's own tokenizer.json does there is tested apart.
"""

import os

import pytest

CORPUS = [
    "",
    " ",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog. It's what foxes'd do, isn't it? WE'LL SEE.",
    "def f(x):\n    return x + 1\n\n\n\tif x:\r\n        pass  \n",
    "Grüße aus Köln \u2014 naïve façade, Ångström, İstanbul, ﬁligree",
    "Съешь же ещё этих мягких французских булок",
    "我能吞下玻璃而不伤身体。日本語のテキスト、한국어 텍스트",
    "النص العربي من اليمين، עברית, हिन्दी में पाठ, ไทย",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\u00a0\u3000 \ufffd \x00\x1f",
    "1234567890 and 3.14159, x2y3",
    "<|im_start|>user\nspecial <|im_end|> tokens<|endoftext|> inside",
    'https://example.org/a_b-c?d=e&f=%20#g {"json": [true, null]} <b>&amp;</b>',
    "a" * 300,
]
CONVERSATIONS = [
    [("user", "What is speculative decoding?")],
    [("system", "Answer in one word."), ("user", "Why?"), ("assistant", "So."), ("user", "é 😀")],
]


@pytest.fixture(scope="module")
def reference(smollm2_files):
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers")
    gguf = smollm2_files.gguf
    return transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


@pytest.mark.parametrize("text", CORPUS)
def test_text_becomes_the_same_tokens_and_comes_back(smollm2, reference, text):
    token_ids = smollm2.encode(text, add_special_tokens=True)
    assert token_ids == reference.encode(text)
    for skip in (True, False):
        assert smollm2.decode(token_ids, skip_special_tokens=skip) == reference.decode(
            token_ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_conversations_become_the_same_prompt(smollm2, reference, messages):
    expected = reference.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert smollm2.render_chat(messages) == expected


ENDS_BY_NAME = ("<|endoftext|>", "<reponame>")


def test_vocabularies_and_special_tokens_are_the_same(smollm2, reference):
    assert smollm2._backend.get_vocab() == reference.get_vocab()
    # llama.cpp counts the names of an end and of a repository too.
    ends = [reference.eos_token_id, *map(reference.convert_tokens_to_ids, ENDS_BY_NAME)]
    assert smollm2.eos_token_ids == set(ends)
    special = {i for i, token in reference.added_tokens_decoder.items() if token.special}
    assert {i for i in range(smollm2.vocab_size) if not smollm2.has_text(i)} == special


def test_spaces_before_digits_stay_together_as_in_training(smollm2):
    token_ids = smollm2.encode("a  12", add_special_tokens=False)
    assert [smollm2.token_text(token_id) for token_id in token_ids] == ["a", "  ", "1", "2"]
