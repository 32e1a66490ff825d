"""What a target tier costs until it is ready.

    python benchmarks/start.py MODEL... [--repeats 5] [--num-threads 0] [--json]

Starts the tier with each model in turns. Medians: seconds until it serves, processor seconds by
then, and what it has in memory, besides what it had at most. Linux only.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from forethought.models.files.reference import resolve

_READY = re.compile(r"\] serving\b")
_TICKS = os.sysconf("SC_CLK_TCK")


def start(model: str, num_threads: int) -> dict[str, float]:
    """One start; raises SystemExit, with the log, if the tier ends before it serves."""
    address = "127.0.0.1:0"
    command = [sys.executable, "-m", "target_service", "--model", model, "--listen", address]
    command += ["--admin-listen", address, "--num-threads", str(num_threads)]
    started = time.perf_counter()
    tier = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert tier.stdout is not None
    lines = []
    try:
        for line in tier.stdout:
            lines.append(line)
            if _READY.search(re.sub(r"\x1b\[[0-9;]*m", "", line)):
                return {"seconds": time.perf_counter() - started, **spent(tier.pid)}
    finally:
        tier.kill()
        tier.wait()
    raise SystemExit("".join(lines))


def spent(pid: int) -> dict[str, float]:
    """Processor seconds and megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = {
        name: int(size) * 1024 / 1e6 for name, size in re.findall(r"(Vm\w+):\s+(\d+) kB", status)
    }
    return {
        "processor_s": (int(fields[11]) + int(fields[12])) / _TICKS,
        "resident_mb": sizes["VmRSS"],
        "peak_mb": sizes["VmHWM"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    starts: dict[str, list[dict[str, float]]] = {model: [] for model in arguments.models}
    for _ in range(arguments.repeats):
        for model, measured in starts.items():
            measured.append(start(model, arguments.num_threads))
    for model, measured in starts.items():
        files = sum(path.stat().st_size for path in resolve(model).weight_files()) / 1e6
        row = {name: statistics.median(each[name] for each in measured) for name in measured[0]}
        if arguments.json:
            print(json.dumps({"model": model, "file_mb": files, **row}))
            continue
        print(
            f"{model}: {files:,.0f} MB, ready after {row['seconds']:.1f} s"
            f" ({row['processor_s']:.1f} processor s),"
            f" {row['resident_mb']:,.0f} MB in memory, {row['peak_mb']:,.0f} at most"
        )


if __name__ == "__main__":
    main()
