"""`make soak`: ten minutes of mixed clients, told on the terminal. Exits with 1 on a failure."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak.run import SoakOptions, run_soak
from tests.tiny import write_tiny_model


def main() -> int:
    """Runs the soak that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    defaults = SoakOptions()
    parser.add_argument("--seconds", type=float, default=defaults.duration_s)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--logs", type=Path, help="folder to keep what the processes say")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        logs = words.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        folder = Path(scratch) / "model"
        write_tiny_model(folder, vocab_size=12, seed=1, max_model_len=4096)
        options = SoakOptions(words.seconds, seed=words.seed)
        report = asyncio.run(run_soak(folder, logs, options))
    sys.stdout.write(f"{report}\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
