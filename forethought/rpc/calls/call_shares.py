"""How many calls a server has under way, shared out between the machines that call.

Each call takes some 15 KB and more, whatever it asks, and calls such as a health watch go on for as
long as their client likes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from forethought.errors import OverloadedError
from forethought.rpc.security.guards import Admit, Context, admit_all
from forethought.shares import Shares


class CallShares:
    """Calls of one kind.

    Args:
        total: most that are under way at a time.
    """

    def __init__(self, total: int) -> None:
        self._shares = Shares(total)

    @contextmanager
    def call(self, context: Context, _method: str = "") -> Iterator[Admit]:
        """One call, while it is under way. A guard.

        Raises:
            OverloadedError: there are too many of the same machine.
        """
        host = context.peer().rpartition(":")[0]  # a machine has a port for each connection
        if not self._shares.has_room(host):
            held, total = self._shares.held_by(host), self._shares.total
            raise OverloadedError(f"{held} calls of this kind are under way from here, of {total}")
        self._shares.take(host)
        try:
            yield admit_all
        finally:
            self._shares.give_back(host)
