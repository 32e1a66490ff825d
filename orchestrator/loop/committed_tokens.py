"""The committed tokens of a session, of which a round copies only its own.

Sessions are values: each round makes the next one, and watchers may keep the one before. All of
them share one log that only grows, and each sees it up to its own length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CommittedTokens(Sequence[int]):
    """A text up to some length; equal to any sequence of the same tokens. Made by `of`."""

    log: list[int]  # shared; what is beyond the length is another version's
    length: int

    @classmethod
    def of(cls, token_ids: Sequence[int]) -> "CommittedTokens":
        """These tokens, copied unless they are `CommittedTokens` already."""
        return token_ids if isinstance(token_ids, cls) else cls(list(token_ids), len(token_ids))

    def followed_by(self, token_ids: Sequence[int]) -> "CommittedTokens":
        """This text and more of it.

        Costs what is new. Only where the text has gone on otherwise already, all is copied.
        """
        log = self.log if self.length == len(self.log) else self[:]
        log.extend(token_ids)
        return CommittedTokens(log, len(log))

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        """A token, or a copy of some."""
        if isinstance(index, slice):
            return self.log[slice(*index.indices(self.length))]
        return self.log[range(self.length)[index]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # as of a list

    def __repr__(self) -> str:
        return f"CommittedTokens({self[:]})"
