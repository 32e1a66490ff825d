"""Threads of a model that takes all cores are bound, one to each.

In every one of some hundred operations of a pass all threads wait for the last one. After a pause
the kernel may wake two of them on one core, since on the other a thread of another tier, or of this
one's interpreter, runs just then.

A model that leaves cores to others is not bound: which are free may change.
"""

import os
from array import array

import structlog
import torch

from forethought.engine.native import kernels
from forethought.engine.native.structures import Binding

_log = structlog.get_logger(__name__)


def bind_threads() -> None:
    """Binds this thread and those that compute for it, where that is one for each core."""
    if not (kernels.are_built and hasattr(os, "sched_getaffinity")):
        return
    cores = array("q", sorted(os.sched_getaffinity(0)))
    if torch.get_num_threads() == len(cores):
        binding = Binding(cpus=cores.buffer_info()[0], count=len(cores))
        num_bound = kernels.native.bind_threads(binding)
        _log.info("threads_bound", num_threads=num_bound)
