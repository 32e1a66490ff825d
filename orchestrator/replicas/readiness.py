"""Whether requests can be served: there is a target for their sessions.

Draft tiers and stores do not count: requests are served without. Targets may be away for as long as
requests wait for them, so that a target that is started again does not show.
"""

from collections.abc import Callable
from typing import Any

import structlog

from orchestrator.replicas.replica_set import ReplicaSet

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0
"""Between two looks at what no replica gives notice of: a pause that is over."""


async def follow(
    targets: ReplicaSet[Any],
    set_ready: Callable[[bool], None],
    patience_s: float,
    clock: Callable[[], float],
) -> None:
    """Tells `set_ready` at once when a target is usable, and that none is once that has lasted for
    `patience_s`. Begins with patience. Never returns."""
    is_ready, give_up = True, clock() + patience_s
    set_ready(is_ready)
    while True:
        is_usable = targets.is_usable
        if is_usable:
            give_up = clock() + patience_s
        left_s = give_up - clock()
        if is_ready is not (is_usable or left_s > 0):
            is_ready = not is_ready
            log = _log.info if is_ready else _log.warning
            log("ready" if is_ready else "not_ready", targets=targets.describe())
            set_ready(is_ready)
        await targets.change(_LOOK_S if is_usable or not is_ready else min(left_s, _LOOK_S))
