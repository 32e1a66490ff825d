"""Too little memory for keys and values is said in words, before anything is written to it."""

import asyncio
import math

import pytest
import torch

from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.cache import available_memory as memory
from forethought.engine.cache.kv_memory import num_kv_blocks
from forethought.errors import NotEnoughMemoryError
from tests.engine.ledger import LedgerModel
from tests.engine.scoring import rows_of
from tests.lifecycle.processes import TierProcess

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 8 GiB available, and no control groups yet."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("-", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write(proc__meminfo=f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    return write


def test_without_limits_all_that_the_machine_has_is_available(system):
    assert memory.available_memory(CPU) == 8 * GIB


def test_a_container_gets_no_more_than_its_limit_leaves(system, tmp_path):
    system(proc__self__cgroup="0::/pod/box\n")
    folder = tmp_path / "cgroup/pod"
    (folder / "box").mkdir(parents=True)
    (folder / "box/memory.max").write_text("max\n")
    (folder / "box/memory.current").write_text(f"{GIB}\n")
    (folder / "memory.max").write_text(f"{4 * GIB}\n")
    (folder / "memory.current").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\n")
    assert memory.available_memory(CPU) == 1.5 * GIB


def test_a_limit_counts_where_nothing_is_said_of_files(system, tmp_path):
    system(proc__self__cgroup="0::/\n")
    (tmp_path / "cgroup").mkdir(exist_ok=True)
    (tmp_path / "cgroup/memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "cgroup/memory.current").write_text(f"{GIB}\n")
    assert memory.available_memory(CPU) == GIB


def test_limits_of_the_older_control_groups_count_too(system, tmp_path):
    system(proc__self__cgroup="4:cpu:/box\n3:memory,hugetlb:/box\n")
    folder = tmp_path / "cgroup/memory/box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory.available_memory(CPU) == GIB


def test_a_system_that_says_nothing_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert memory.available_memory(CPU) == math.inf


def test_more_than_there_is_is_refused_with_both_numbers_and_the_option(system):
    with pytest.raises(NotEnoughMemoryError) as caught:
        num_kv_blocks(LedgerModel(), 9 * GIB)
    for words in ("9.0 GiB", "8.0 GiB", "lower --kv-memory"):
        assert words in caught.value.message


def test_less_than_a_block_is_refused(system):
    with pytest.raises(NotEnoughMemoryError, match="raise --kv-memory"):
        num_kv_blocks(LedgerModel(), 1)


def test_where_nobody_says_a_part_of_what_is_available_is_taken(system):
    system(proc__meminfo="MemAvailable: 1024 kB\n")
    model = LedgerModel()
    assert num_kv_blocks(model, 0) == 2**19 // model.kv_bytes_per_block


class Greedy(LedgerModel):
    """Really asks for more than any machine has."""

    kv_bytes_per_block = 2**50

    def allocate(self, num_blocks):
        torch.empty(num_blocks * self.kv_bytes_per_block, dtype=torch.uint8)


def test_an_allocation_that_fails_is_refused_the_same_way():
    with pytest.raises(NotEnoughMemoryError, match="lower --kv-memory"):
        Engine(Greedy(), EngineLimits(num_blocks=1024), rows_of)


async def test_a_target_without_memory_for_its_keys_and_values_says_so(
    tmp_path, tiny_target_folder
):
    words = ["--model", str(tiny_target_folder), "--device", "cpu", "--kv-memory", "9000TiB"]
    target = TierProcess("target_service", words, tmp_path / "log")
    target.start()
    assert await asyncio.to_thread(target.wait) == 1
    for part in ("9216000.0 GiB", "lower --kv-memory"):
        assert part in target.log()
    assert "Traceback" not in target.log()
