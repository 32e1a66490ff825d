"""What scripts outside this repository import to look at the files of a model."""

from forethought.models.reference import ModelFiles, resolve
from forethought.models.tokenizer import TextTokenizer, load_tokenizer


def test_scripts_find_the_files_and_the_tokenizer_of_a_model(smollm2, smollm2_files):
    assert resolve(smollm2_files.reference, with_weights=False) == smollm2_files
    assert isinstance(smollm2_files, ModelFiles)
    assert isinstance(load_tokenizer(smollm2_files), TextTokenizer)
    assert smollm2.render_chat([("user", "hi")])
