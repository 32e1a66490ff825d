"""Files of keys, and who guards by them."""

from pathlib import Path

from forethought.keys.key_file import KeyRing, make_key, read_keys, write_keys
from forethought.reloading import Reloading
from forethought.rpc.calls.key_guard import only_with_keys
from forethought.rpc.security.guards import Guard


def add(path: Path, tenant: str, **limits: int) -> str:
    """A key more in the file."""
    secret, key = make_key(tenant, **limits)
    write_keys(path, (*(read_keys(path).keys if path.exists() else ()), key))
    return secret


def guard_of(path: Path) -> Guard:
    ring: Reloading[KeyRing] = Reloading([path], lambda: read_keys(path), look_s=0)
    return only_with_keys(ring)
