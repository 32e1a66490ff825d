"""`python -m tests.lifecycle.failing_target`: a target that fails in some way on SIGUSR1.

The way is the first argument; the rest is for `target_service`.
"""

import signal
import sys
from typing import Any

from forethought.engine.batching.model_runner import ModelRunner
from forethought.engine.batching.scheduler import Scheduler
from forethought.rpc.serving.server import run_process
from target_service.__main__ import serve
from target_service.settings import TargetSettings

WAYS = {
    "choosing": (Scheduler, "next_pass"),
    "passes": (ModelRunner, "forward"),
    "trials": (ModelRunner, "can_compute"),
}


def main() -> None:
    way, *arguments = sys.argv[1:]
    names = ("passes", "trials") if way == "passes" else (way,)
    is_broken = False

    def break_down(*_: Any) -> None:
        nonlocal is_broken
        is_broken = True

    def breakable(name: str) -> None:
        owner, attribute = WAYS[name]
        whole = getattr(owner, attribute)

        def broken(*args: Any) -> Any:
            if is_broken and name == "trials":
                return False
            if is_broken:
                raise MemoryError(name)
            return whole(*args)

        setattr(owner, attribute, broken)

    for name in names:
        breakable(name)
    signal.signal(signal.SIGUSR1, break_down)
    run_process(serve(TargetSettings.from_command_line(arguments)))


if __name__ == "__main__":
    main()
