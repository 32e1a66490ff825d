"""A cluster of Valkey servers of the tests' own."""

import time
from itertools import pairwise
from pathlib import Path

from redis import Redis

from tests.store.servers import PATIENCE_S, ValkeyServer

_NUM_SLOTS = 16384


class ValkeyCluster:
    """Three primaries that share the slots, and replicas of the first.

    Args:
        folder: for the servers' own notes.
        num_replicas: of the first primary.
    """

    def __init__(self, folder: Path, num_replicas: int = 0) -> None:
        self.servers = [ValkeyServer() for _ in range(3 + num_replicas)]
        self._folder = folder

    @property
    def primaries(self) -> list[ValkeyServer]:
        return self.servers[:3]

    @property
    def url(self) -> str:
        """Of the last primary: any would do."""
        return self.primaries[-1].url

    def start(self) -> None:
        """Starts all, and returns when every server knows who has which slot."""
        for number, server in enumerate(self.servers):
            notes = str(self._folder / f"{number}.conf")
            server.start(
                *("--cluster-enabled", "yes", "--cluster-config-file", notes),
                *("--cluster-node-timeout", "500", "--dir", str(self._folder)),
            )
        bounds = [_NUM_SLOTS * part // 3 for part in range(4)]
        for server, (first, end) in zip(self.primaries, pairwise(bounds), strict=True):
            _tell(server, "CLUSTER ADDSLOTSRANGE", first, end - 1)
            _tell(server, "CLUSTER SET-CONFIG-EPOCH", 1 + self.servers.index(server))
        first = self.servers[0]
        for server in self.servers[1:]:
            _tell(server, "CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
        first_id = _tell(first, "CLUSTER MYID").decode()
        _until(lambda: all(self._knows_all(server) for server in self.servers))
        for server in self.servers[3:]:
            _tell(server, "CLUSTER REPLICATE", first_id)
            _until(lambda server=server: b"master_link_status:up" in _info(server))
        _until(lambda: all(self._is_ok(server) for server in self.servers))

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def owner_of(self, slot: int) -> ValkeyServer:
        """The primary that had a slot from the start."""
        return self.primaries[slot * 3 // _NUM_SLOTS]

    def move(self, slot: int, *, until_done: bool = True) -> tuple[ValkeyServer, ValkeyServer]:
        """Moves a slot to another primary, key by key; or leaves it half-way, for ASK."""
        source = self.owner_of(slot)
        target = self.primaries[(self.primaries.index(source) + 1) % 3]
        source_id, target_id = (_tell(each, "CLUSTER MYID").decode() for each in (source, target))
        _tell(target, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        _tell(source, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        keys = _tell(source, "CLUSTER GETKEYSINSLOT", slot, 1000)
        if keys:
            _tell(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        if until_done:
            for each in (target, source):
                _tell(each, "CLUSTER SETSLOT", slot, "NODE", target_id)
        return source, target

    def _knows_all(self, server: ValkeyServer) -> bool:
        return (
            _tell(server, "CLUSTER INFO").count(f"known_nodes:{len(self.servers)}\r".encode()) == 1
        )

    def _is_ok(self, server: ValkeyServer) -> bool:
        return b"cluster_state:ok" in _tell(server, "CLUSTER INFO")


def _client(server: ValkeyServer) -> Redis:
    client = Redis.from_url(server.url, retry=None)
    client.response_callbacks.clear()
    return client


def _tell(server: ValkeyServer, command: str, *arguments: object):
    with _client(server) as client:
        return client.execute_command(*command.split(), *arguments)


def _info(server: ValkeyServer) -> bytes:
    return _tell(server, "INFO", "replication")


def _until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the cluster does not come up"
        time.sleep(0.02)
