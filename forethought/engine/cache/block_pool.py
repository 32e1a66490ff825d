"""Who owns which block of the KV cache, and what full blocks can be used again for.

A block holds the keys and values of 16 tokens in all layers. Sequences own blocks by reference
count. A full block of committed tokens is published under a key that stands for everything up to
its end: the hash of its parent's key and its tokens, the first parent being a salt. A sequence that
begins with the same tokens under the same salt takes the block instead of computing it. A hash is
not proof: a hit compares the tokens too.

A published block that nobody owns stays until its room is needed; the least recently used goes
first, and of one chain the end before the beginning.

Numbers only: the keys and values themselves belong to the model. Touched by the engine's thread
alone, but for `count_match`.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import ForethoughtError


class IntegrityError(ForethoughtError):
    """The pool's books contradict each other."""


@dataclass(frozen=True, slots=True)
class PublishedBlock:
    """A full block that others may use."""

    block_id: int
    parent: bytes  # key of the block before, or of the salt
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockName:
    """What a full block holds, whichever block of whichever pool that is."""

    key: bytes  # stands for all tokens up to its end, and the salt
    parent: bytes  # key of the block before, or of the salt
    token_ids: tuple[int, ...]  # its own


OnPublish = Callable[[int, BlockName], None]
"""Told of each block that is published, and what it holds: not to be kept waiting."""


class BlockPool:
    """A fixed number of blocks.

    Args:
        num_blocks: how many.
        on_publish: called in the engine's thread, with blocks that are complete.
    """

    def __init__(self, num_blocks: int, on_publish: OnPublish | None = None) -> None:
        self._on_publish = on_publish
        self.num_blocks = num_blocks
        self._owners = [0] * num_blocks
        self._empty = list(range(num_blocks))[::-1]  # neither owned nor published
        self._published: dict[bytes, PublishedBlock] = {}
        self._keys: dict[int, bytes] = {}  # of published blocks
        self._unowned: OrderedDict[int, None] = OrderedDict()  # published, least recent first

    @property
    def num_available(self) -> int:
        """Blocks that can be allocated."""
        return len(self._empty) + len(self._unowned)

    def allocate(self, num_blocks: int) -> list[int] | None:
        """Blocks that the caller owns, their content undefined; None if there are not so many."""
        if num_blocks > self.num_available:
            return None
        return [self._take_one() for _ in range(num_blocks)]

    def release(self, block_ids: Sequence[int]) -> None:
        """Gives up blocks, in the order of their sequence."""
        for block_id in reversed(block_ids):
            self._owners[block_id] -= 1
            if not self._owners[block_id]:
                if block_id in self._keys:
                    self._unowned[block_id] = None
                else:
                    self._empty.append(block_id)

    def publish(self, block_id: int, parent: bytes, token_ids: Sequence[int]) -> bytes:
        """Lets others use a full block that the caller owns and will not change.

        Returns:
            The block's key. If another block has it already, this one stays private.
        """
        key = block_key(parent, token_ids)
        if key not in self._published:
            name = BlockName(key, parent, tuple(token_ids))
            self._published[key] = PublishedBlock(block_id, parent, name.token_ids)
            self._keys[block_id] = key
            if self._on_publish is not None:
                self._on_publish(block_id, name)
        return key

    def withdraw(self, block_ids: Sequence[int]) -> None:
        """Lets nobody take over blocks any more. Those who own them keep them."""
        for block_id in block_ids:
            key = self._keys.pop(block_id, None)
            if key is not None:
                del self._published[key]

    def take_prefix(self, token_ids: Sequence[int], salt: bytes) -> tuple[list[int], list[bytes]]:
        """The published blocks that the tokens begin with, now owned by the caller too.

        Returns:
            Their ids and their keys.
        """
        keys = self._match(token_ids, salt)
        block_ids = [self._published[key].block_id for key in keys]
        for block_id in block_ids:
            self._owners[block_id] += 1
            self._unowned.pop(block_id, None)
        return block_ids, keys

    def count_match(self, token_ids: Sequence[int], salt: bytes) -> int:
        """How many of the tokens `take_prefix` would find at this moment. Any thread may ask."""
        return BLOCK_LEN * len(self._match(token_ids, salt))

    def check(self, owned: Iterable[Sequence[int]]) -> None:
        """Whether the books agree with each other and with what sequences say they own.

        Args:
            owned: the block ids of each sequence.

        Raises:
            IntegrityError: they do not.
        """
        owners = Counter(block_id for block_ids in owned for block_id in block_ids)
        places = Counter([*self._empty, *self._unowned, *owners.keys()])
        faults = {
            "owned by others than its owners": [
                block_id
                for block_id in range(self.num_blocks)
                if owners[block_id] != self._owners[block_id]
            ],
            "lost, or in two places": [
                block_id for block_id in range(self.num_blocks) if places[block_id] != 1
            ],
            "empty and published": [each for each in self._empty if each in self._keys],
            "published under another key": [
                block.block_id
                for key, block in self._published.items()
                if self._keys.get(block.block_id) != key
                or block_key(block.parent, block.token_ids) != key
            ],
            "without its publication": [
                block_id for block_id, key in self._keys.items() if key not in self._published
            ],
        }
        found = {fault: blocks for fault, blocks in faults.items() if blocks}
        if found:
            raise IntegrityError(f"blocks of the KV cache: {found}")

    def _take_one(self) -> int:
        if self._empty:
            block_id = self._empty.pop()
        else:
            block_id, _ = self._unowned.popitem(last=False)
            del self._published[self._keys.pop(block_id)]
        self._owners[block_id] = 1
        return block_id

    def _match(self, token_ids: Sequence[int], salt: bytes) -> list[bytes]:
        """The keys of the longest chain of published blocks that the tokens begin with."""
        keys: list[bytes] = []
        for name in block_names(token_ids, salt):
            block = self._published.get(name.key)
            if block is None or (block.token_ids, block.parent) != (name.token_ids, name.parent):
                break
            keys.append(name.key)
        return keys


def block_names(token_ids: Sequence[int], salt: bytes) -> Iterator[BlockName]:
    """The full blocks of a sequence, from its beginning."""
    parent = root_key(salt)
    for start in range(0, len(token_ids) - BLOCK_LEN + 1, BLOCK_LEN):
        tokens = tuple(token_ids[start : start + BLOCK_LEN])
        name = BlockName(block_key(parent, tokens), parent, tokens)
        yield name
        parent = name.key


def root_key(salt: bytes) -> bytes:
    """What the first block of a sequence has for a parent."""
    return blake2b(salt, digest_size=16).digest()


def block_key(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """16 bytes that stand for all tokens up to the end of a block."""
    return blake2b(array("q", token_ids).tobytes(), key=parent, digest_size=16).digest()
