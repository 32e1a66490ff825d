"""`make chaos`: a long storm, told on the terminal. Exits with 1 if anything was lost."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import ChaosOptions, run_chaos
from tests.tiny import write_tiny_model


def main() -> int:
    """Runs the storm that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    defaults = ChaosOptions()
    parser.add_argument("--seconds", type=float, default=defaults.duration_s)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--interval", type=float, default=defaults.interval_s)
    parser.add_argument("--clients", type=int, default=defaults.num_readers)
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens)
    parser.add_argument("--logs", type=Path, help="folder to keep what the processes say")
    words = parser.parse_args()
    options = ChaosOptions(
        words.seconds, words.seed, words.interval, words.clients, words.max_tokens
    )
    with tempfile.TemporaryDirectory() as scratch:
        logs = words.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        folder = Path(scratch) / "model"
        write_tiny_model(folder, vocab_size=12, seed=1, max_model_len=4096)
        report = asyncio.run(run_chaos(folder, logs, options))
    sys.stdout.write(f"{report}\n")
    return 1 if report.findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
