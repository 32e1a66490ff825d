"""Texts to count: token ids of samples, each with the place from which on its tokens are counted.

A folder of `.npz` files holds in each

    token_ids      [T]      sample after sample, prompt and answer
    starts         [S + 1]  where the samples begin in token_ids, and T
    answer_starts  [S]      where their answers begin, also in token_ids

Only answers are counted: they are what will be drafted. Prompts are what comes before. A `.npy`
file of token ids is one sample that is counted as a whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from forethought.errors import ForethoughtError

Ids = npt.NDArray[np.int64]


class CorpusError(ForethoughtError):
    """Files that hold no texts."""

    code = "FAILED_PRECONDITION"
    reason = "CORPUS"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Samples, one after another."""

    token_ids: Ids  # [T]
    starts: Ids  # [S + 1], ascending, from 0 to T
    answer_starts: Ids  # [S], each within its sample

    def __len__(self) -> int:
        return len(self.answer_starts)

    @property
    def num_answer_tokens(self) -> int:
        """Tokens that are counted."""
        return int((self.starts[1:] - self.answer_starts).sum())

    def select(self, samples: npt.NDArray[np.bool_]) -> "Corpus":
        """The samples for which a mask, [S], is true."""
        lengths = np.diff(self.starts)
        starts = np.concatenate([[0], np.cumsum(lengths[samples])])
        prompts = (self.answer_starts - self.starts[:-1])[samples]
        kept = self.token_ids[np.repeat(samples, lengths)]
        return Corpus(kept, starts, starts[:-1] + prompts)

    def split(self, every: int) -> tuple["Corpus", "Corpus"]:
        """All samples but each `every`-th, and these."""
        left_out = np.arange(len(self)) % every == every - 1
        return self.select(~left_out), self.select(left_out)


def read_corpus(paths: Sequence[Path]) -> Corpus:
    """All texts of files and folders, in the order given, those of a folder by name.

    Raises:
        CorpusError: a file cannot be read, or is not as described above, or nothing is there.
    """
    parts = [_read(file) for path in paths for file in _files(path)]
    if not sum(part.num_answer_tokens for part in parts):
        raise CorpusError(f"no tokens to count in {', '.join(map(str, paths))}")
    offsets = np.cumsum([0, *(len(part.token_ids) for part in parts)])
    return Corpus(
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate(
            [[0], *(part.starts[1:] + offset for part, offset in _pairs(parts, offsets))]
        ),
        np.concatenate([part.answer_starts + offset for part, offset in _pairs(parts, offsets)]),
    )


def _pairs(parts: Sequence[Corpus], offsets: Ids) -> Iterable[tuple[Corpus, int]]:
    return zip(parts, offsets[:-1].tolist(), strict=True)


def _files(path: Path) -> list[Path]:
    return sorted([*path.glob("*.npz"), *path.glob("*.npy")]) if path.is_dir() else [path]


def _read(path: Path) -> Corpus:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                whole = [0, len(loaded)]
                return _checked(path, loaded, np.array(whole), np.array(whole[:1]))
            with loaded:
                names = ("token_ids", "starts", "answer_starts")
                return _checked(path, *(loaded[name] for name in names))
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, TypeError, MemoryError, BadZipFile) as error:
        raise CorpusError(
            f"{path} holds no token ids: expected is a folder `data` that `forethought distill` "
            "made, or a .npy file of numpy's"
        ) from error


def _checked(
    path: Path,
    token_ids: npt.NDArray[np.integer],
    starts: npt.NDArray[np.integer],
    answer_starts: npt.NDArray[np.integer],
) -> Corpus:
    for array in (token_ids, starts, answer_starts):
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise CorpusError(f"{path} holds other arrays than rows of whole numbers")
    corpus = Corpus(*(each.astype(np.int64) for each in (token_ids, starts, answer_starts)))
    bounds = corpus.starts
    fits = (
        len(bounds) == len(corpus) + 1
        and bounds[0] == 0
        and bounds[-1] == len(token_ids)
        and (bounds[:-1] <= corpus.answer_starts).all()
        and (corpus.answer_starts <= bounds[1:]).all()
    )
    if not fits or (len(token_ids) and corpus.token_ids.min() < 0):
        raise CorpusError(f"the samples in {path} do not fit its token ids")
    return corpus
