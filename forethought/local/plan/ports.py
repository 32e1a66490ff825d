"""Free ports of this machine, one after the other."""

from forethought.addresses import MAX_PORT, join_address
from forethought.local.plan.plan_error import PlanError
from forethought.rpc.serving.listening import why_not_to_listen

_KNOWN = {"orchestrator", "gateway"}
"""Whose ports people know; those of the others are nobody's to know."""


class Ports:
    """Hands out ports from a first one upwards."""

    def __init__(self, first: int) -> None:
        self._next = first
        self.notes: list[str] = []

    def take(self, name: str, host: str, *, exactly: str = "") -> int:
        """The next free port on a host.

        Args:
            name: who is to listen.
            host: where.
            exactly: the option that asked for the very next one.

        Raises:
            PlanError: there is none, or nobody can listen on that host.
        """
        wanted = self._next
        while why := why_not_to_listen(host, self._next):
            if why.is_about_host:
                raise PlanError(f"--host {host}: {why.words}")
            if exactly:
                raise PlanError(f"{exactly} {wanted}: {why.words}")
            self._next += 1
            if self._next > MAX_PORT:
                raise PlanError(f"no free port on {host} from {wanted} on")
        port = self._next
        self._next += 1
        if port != wanted and name in _KNOWN:
            where = join_address(host, port)
            self.notes.append(f"port {wanted} is not free, so {name} listens on {where}")
        return port
