"""How many files and connections the process may have open."""

from contextlib import suppress

KEPT = 256
"""For all that is no client's connection: tiers, the store, files."""


def allow_open_files(wanted: int) -> int:
    """Raises the limit of this process as far as it goes, and returns how many connections of
    clients it leaves room for, at most `wanted`."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, soft - KEPT), 1)
