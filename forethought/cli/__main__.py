"""The console script `forethought`, and `python -m forethought.cli`.

It imports nothing of ours before Ctrl-C is safe: an interrupt in the middle of an import ends the
process at once and without a word.
"""

import signal


def main() -> None:
    """Runs the command line, and exits."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command runs, see `lazy`
    from forethought.cli.guard import run_guarded  # noqa: PLC0415

    run_guarded()


if __name__ == "__main__":
    main()
