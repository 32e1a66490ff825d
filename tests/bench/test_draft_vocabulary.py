"""The share of a text that a draft can guess with its most frequent tokens."""

import sys

from benchmarks.draft_vocabulary import main


def test_shares_grow_with_the_tokens_that_are_scored_and_all_are_the_whole_text(
    tmp_path, tiny_draft_folder, monkeypatch, capsys
):
    text = tmp_path / "text"
    text.write_text("abcabc ab")  # tokens 3, 4, 5 and the space, 2, of a vocabulary of 12
    arguments = ["--model", str(tiny_draft_folder), "--sizes", "2,4,5,12", str(text)]
    monkeypatch.setattr(sys, "argv", ["draft_vocabulary.py", *arguments])
    main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    head, _, two, four, five, whole = lines
    assert head == "| tokens scored | by merges |"
    assert two.endswith("| 0% |")
    assert four.endswith("| 44% |")  # the space and three times "a"
    assert five.endswith("| 78% |")
    assert whole.endswith("| 100% |")
