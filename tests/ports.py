"""Ports for processes that must be told where to listen."""

import os
import random
import socket
from itertools import cycle

# Below those that Linux hands out to connections and to servers that ask for any port: one that
# was free a moment ago, or belongs to a server that a test restarts, goes to nobody else.
_ALL = range(12_000, 32_000)
# What is given the first port takes the next ones for more servers, and a second deployment begins
# ten above the first.
_STEP = 20


def _ports_of_this_worker() -> list[int]:
    """Those that no other worker of the run has, from anywhere in them."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    num_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = _ALL[worker * _STEP :: num_workers * _STEP]
    begin = random.randrange(len(ports))
    return [*ports[begin:], *ports[:begin]]


_ports = cycle(_ports_of_this_worker())


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago, most likely with the next 19."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
