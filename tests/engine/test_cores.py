"""Threads that compute are bound to cores of their own where they take all, and no others are."""

import json
import os
import subprocess
import sys

import pytest

from forethought.engine.native import kernels

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

pytestmark = pytest.mark.skipif(
    not kernels.are_built or len(CORES) < 2,
    reason="needs the C extension, on Linux, and two cores",
)

BOUND = """
import json, os, sys, threading
import torch
from forethought.engine.native.cores import bind_threads

torch.set_num_threads(int(sys.argv[1]))

def compute():
    torch.set_num_threads(torch.get_num_threads())
    bind_threads()
    torch.ones(2**20).exp().sum()
    tasks = map(int, os.listdir("/proc/self/task"))
    result.extend((task, sorted(os.sched_getaffinity(task))) for task in tasks)

result = []
thread = threading.Thread(target=compute)
thread.start()
thread.join()
print(json.dumps({"first": os.getpid(), "cores": dict(result)}))
"""


def bound_cores(num_threads: int) -> tuple[list[int], list[int]]:
    """What the threads are bound to that compute with so many, and what the first thread is."""
    done = subprocess.run(
        [sys.executable, "-c", BOUND, str(num_threads)], capture_output=True, check=True, text=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    first = told["cores"][str(told["first"])]
    return [cores[0] for cores in told["cores"].values() if len(cores) == 1], first


def test_threads_that_take_all_cores_have_one_each():
    bound, first = bound_cores(len(CORES))
    assert sorted(bound) == CORES
    assert first == CORES


def test_threads_that_leave_a_core_to_others_are_not_bound():
    assert bound_cores(len(CORES) - 1) == ([], CORES)
