"""Becomes another program that dies with its parent. Run as a script:

    python -I -S die_with_parent.py PARENT_PID COMMAND [ARGUMENT ...]

Linux sends SIGKILL to this process when its parent dies, however the parent dies; the wish
survives exec (prctl(2), PR_SET_PDEATHSIG). It is made here, after the fork and in a program of
its own, because Python code between fork and exec (`preexec_fn`) can deadlock in a parent that
runs threads, and gRPC runs some. Elsewhere than on Linux this only becomes the other program.

The parent that counts is the thread that forked: it must be the main one.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, command: list[str]) -> None:
    """Replaces this process by `command`. Returns never."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent_pid:  # it died before the wish was made
            sys.exit(1)
    # Python ignores these two at start, and what is ignored stays so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
