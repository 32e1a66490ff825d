"""How much of some texts a draft can guess that scores its most frequent tokens only.

    python benchmarks/draft_vocabulary.py --model REF [--counts FILE] [--sizes N,N,...] TEXT...

The share of the texts' tokens that are among the N that `--draft-vocab-size N` keeps, as the merges
of the tokenizer tell them and, with a file of counts, as these do. Of texts that the target writes
it is the share of its tokens that a draft can guess at all. The table is markdown.
"""

import argparse
from pathlib import Path

from draft_service.frequent_tokens import frequent_tokens
from forethought.bench.report import percent
from forethought.cli.bench.throughput_options import parse_counts
from forethought.counts.file import read_counts
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="REF", help="of the draft")
    parser.add_argument("--counts", type=Path, metavar="FILE", help="by `forethought count`")
    parser.add_argument("--sizes", type=parse_counts, default=(8192, 16384, 32768, 65536))
    parser.add_argument("texts", type=Path, nargs="+", metavar="TEXT")
    options = parser.parse_args()
    tokenizer = load_tokenizer(resolve(options.model, with_weights=False))
    text = "\n".join(path.read_text() for path in options.texts)
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    ways = {"by merges": None}
    if options.counts:
        ways["by counts"] = read_counts(options.counts, tokenizer.fingerprint).table
    print(f"{len(token_ids):,} tokens, of a vocabulary of {tokenizer.vocab_size:,}\n")
    print(f"| tokens scored | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    for size in options.sizes:
        shares = []
        for counts in ways.values():
            kept = {*(frequent_tokens(tokenizer, size, counts) or range(tokenizer.vocab_size))}
            shares.append(sum(token_id in kept for token_id in token_ids) / len(token_ids))
        print(f"| {size:,} | {' | '.join(map(percent, shares))} |")


if __name__ == "__main__":
    main()
